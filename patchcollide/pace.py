"""How far a piece of work has come: as a line for people, and as a record for programs."""

import math
import time
from collections.abc import Callable

from patchcollide.formats import format_seconds


class Pace:
    """Items done of a number, with the latest figures.

    Args:
        label: What is done, such as ``Moving the vertices``.
        total: How many items there are.
        clock: Seconds, for tests.
    """

    def __init__(self, label: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.label, self.total, self.done = label, total, 0
        self.figures: dict[str, float] = {}
        self._clock, self._begun = clock, clock()

    def note(self, **figures: float | None) -> None:
        """Takes note of figures; what is None keeps its last value."""
        self.figures |= {name: value for name, value in figures.items() if value is not None}

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the mean pace so far; None before the first item."""
        if not self.done:
            return None
        return (self._clock() - self._begun) / self.done * max(self.total - self.done, 0)

    def line(self) -> str:
        """Returns one line: how many of how many, figures, time left."""
        parts = [f"{self.label}: {self.done} of {self.total}"]
        parts += [f"{name} {value:.4g}" for name, value in self.figures.items()]
        if self.seconds_left is not None and self.done < self.total:
            parts.append(f"{format_seconds(self.seconds_left)} left")
        return ", ".join(parts)

    def record(self) -> dict[str, object]:
        """Returns the same as a JSON object; a figure that is not finite is None there.

        Where no figure says which step it is, it is the number of items done.
        """
        figures = {
            name: value if math.isfinite(value) else None for name, value in self.figures.items()
        }
        left = None if self.seconds_left is None else round(self.seconds_left, 3)
        about = {"label": self.label, "done": self.done, "total": self.total, "seconds_left": left}
        return {"event": "progress", **about, "step": self.done, **figures}
