"""What it takes to measure searches beside each other: their turns, and how peers are built."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from bench_corpus import Corpus, Peer
from bench_machine import Meter, anonymous_bytes, available_bytes, summarise


@dataclass
class Contestant:
    """A search that takes part.

    Attributes:
        search: Finds the identifiers of the nearest patches, for each source.
        result: What is known of it.
        seconds: How long each repetition took, for a source.
    """

    search: Callable[[], list[np.ndarray]]
    result: dict[str, Any]
    seconds: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Returns what is known of it, with its seconds."""
        return {**self.result, "seconds": summarise(self.seconds)}


def take_turns(contestants: Iterable[Contestant], num_sources: int) -> None:
    """Lets each search once."""
    for contestant in contestants:
        with Meter() as meter:
            contestant.search()
        contestant.seconds.append(meter.seconds / num_sources)


def refusal(peer: Peer, corpus: Corpus) -> str | None:
    """Says why a peer can not take part, if so."""
    needed, free = peer.needed_bytes(corpus), available_bytes()
    if needed > free:
        return f"needs {needed / 1e9:.3g} GB of memory, {free / 1e9:.3g} GB are available"
    return peer.refusal(corpus)


def build(peer: Peer, corpus: Corpus, longest: float) -> dict[str, Any]:
    """Builds a peer; returns what that took.

    Raises:
        TimeoutError: If it takes more than ``longest`` seconds, and can be stopped.
    """
    before, begun = anonymous_bytes(), time.process_time()
    with Meter() as building:
        peer.build(replace(corpus, deadline=time.monotonic() + longest))
    return {
        "about": peer.about,
        "build_seconds": building.seconds,
        # Of all cores together: these do not grow when others use the machine.
        "build_core_seconds": time.process_time() - begun,
        "bytes": max(anonymous_bytes() - before, 0),
        "memory": building.memory(),
    }
