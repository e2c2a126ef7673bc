"""The engines that pass over the whole store, `exact` and `certified`: every answer proven."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from patchcollide.parallel import (
    LOCAL,
    Backend,
    map_in_threads,
    map_shards,
    num_threads,
    one_thread_each,
)
from patchcollide.progress import track
from patchcollide.retrieval import block_bounds
from patchcollide.retrieval.candidates import allowed_once, nearest_candidates
from patchcollide.retrieval.scan import ON_A_GPU, Scan
from patchcollide.retrieval.searcher import NO_DISTANCE, Pairs, Question, Searcher, SearchResult
from patchcollide.shapes import Bool, Int64, UInt8, ndarray
from patchcollide.store.blocks import Blocks
from patchcollide.store.descriptors import Basis
from patchcollide.store.patch_sums import PatchSums
from patchcollide.store.reader import PatchStore, Shard
from patchcollide.store.sums_files import open_sums, read_sums
from patchcollide.torch_modes import proof_modes

IMAGES_AT_ONCE = 64
"""Images that a thread reads at once, for a pass on the processor."""
SUMS_AT_ONCE = 512
"""Of so many images, at most, a thread reads block sums at once: of fewer, threads would wait for
each other between short calls."""
_BLOCKS_BETWEEN_MERGES = 8
SAMPLED_IMAGES = 32
"""Images that bound the distances before a pass, or up to twice as many."""


@dataclass(frozen=True)
class ExhaustiveSearcher(Searcher):
    """Passes over the whole store; the answer is that of a loop in integers, bit for bit.

    Attributes:
        store: The store.
        basis: Proves most patches too far without comparing them; None compares all.
        guide: Another engine, whose answers bound the distances from the start; None takes a
            sample of the images.
        device: Where to compute, such as ``cpu`` or ``cuda``.
        backend: Where the map over shards runs.
    """

    store: PatchStore
    basis: Basis | None = None
    guide: Searcher | None = None
    device: str = "cpu"
    backend: Backend = LOCAL

    @proof_modes()
    def search_all(self, questions: Sequence[Question], k: int) -> list[SearchResult]:
        """See :meth:`patchcollide.retrieval.searcher.Searcher.search_all`."""
        queries = np.concatenate([question.queries for question in questions])
        allowed, barred = self._exclusions(questions)
        scan = Scan(queries, self.store.grid, k, self.basis, barred, self.device)
        bounds = self._first_bounds(scan, questions, allowed)
        work = partial(_scan_shard, scan=scan, bounds=bounds)
        parts = [(shard, allowed[shard.first_image :][: len(shard.valid)])
                 for shard in self.store.shards]  # fmt: skip
        best = Pairs.none()
        shards = track(map_shards(work, parts, self.backend), "Searching all patches", len(parts))
        for found in shards:
            best = Pairs.joined([best, found]).nearest(k)
            # On this machine the next shard sees these; a cluster keeps to the first ones.
            _tighten(bounds, best, k)
        distances, ids = best.table(len(queries), k)
        ends = np.cumsum([len(question.queries) for question in questions])[:-1]
        proven = np.ones(len(queries), np.bool_)
        tables = (np.split(whole, ends) for whole in (distances, ids, proven))
        return [SearchResult(*parts) for parts in zip(*tables, strict=True)]

    def _exclusions(
        self, questions: Sequence[Question]
    ) -> tuple[Bool[ndarray, "images"], dict[int, Int64[ndarray, "queries"]]]:
        """Returns which images some query may find, and of those the queries that may not."""
        of_image = defaultdict(list)
        first = 0
        for question in questions:
            numbers = np.arange(first, first + len(question.queries))
            for image in np.unique(question.exclude).tolist():
                of_image[image].append(numbers)
            first += len(question.queries)
        allowed = self.store.valid.copy()
        allowed[[n for n, parts in of_image.items() if len(parts) == len(questions)]] = False
        return allowed, {n: np.concatenate(p) for n, p in of_image.items() if allowed[n]}

    def _first_bounds(
        self, scan: Scan, questions: Sequence[Question], allowed: Bool[ndarray, "images"]
    ) -> Int64[ndarray, "queries"]:
        """Returns squared distances within which ``k`` patches of each query are known to lie."""
        if self.guide:
            answers = self.guide.search_all(questions, scan.k)
            parts = zip(questions, answers, strict=True)
            return np.concatenate([self._farthest(*part, scan.k) for part in parts])
        bounds = np.full(scan.num_queries, NO_DISTANCE)
        numbers = np.flatnonzero(allowed)
        if len(numbers) > 2 * SAMPLED_IMAGES:
            numbers = numbers[:: len(numbers) // SAMPLED_IMAGES]
            images = np.stack([self.store.image(int(number)) for number in numbers])
            _tighten(bounds, scan.block(images, numbers, bounds).nearest(scan.k), scan.k)
        return bounds

    def _farthest(
        self, question: Question, answer: SearchResult, k: int
    ) -> Int64[ndarray, "queries"]:
        """Returns the largest distance of the ``k`` patches named for each query.

        Nothing else of the answer is believed: only ``k`` different patches that may be answers
        prove a bound, at the distances that they really have.
        """
        ids = allowed_once(self.store, answer.ids, question.exclude)
        found = nearest_candidates(PatchSums(self.store), question.queries, ids, k)
        return found.table(len(question.queries), k)[0][:, k - 1]


@proof_modes()
def _scan_shard(
    part: tuple[Shard, Bool[ndarray, "n"]], scan: Scan, bounds: Int64[ndarray, "queries"]
) -> Pairs:
    """Returns the nearest pairs within a shard."""
    shard, allowed = part
    bounds = bounds.copy()
    blocks = Blocks.of(scan.grid)
    file = open_sums(scan.grid, shard.origin) if blocks else None
    at_once = images_at_once(scan, len(allowed))
    if scan.takes_sums and not file:
        # Sums are made of pixels here, which take much more memory.
        at_once = min(at_once, IMAGES_AT_ONCE)

    def block(start: int) -> Pairs:
        some = slice(start, min(start + at_once, len(allowed)))
        numbers = np.flatnonzero(allowed[some])
        if blocks and scan.takes_sums:
            sums = read_sums(shard, file, blocks, some)
            chosen = sums if len(numbers) == len(sums.norms) else sums[numbers]
            read = partial(_read_some, shard, start + numbers)
            return scan.block_of_sums(chosen, shard.first_image + start + numbers, bounds, read)
        images = shard.read(some.start, some.stop)
        norms = file.read_norms(some.start, some.stop) if file else None
        if len(numbers) < len(images):
            images, norms = images[numbers], None if norms is None else norms[numbers]
        return scan.block(images, shard.first_image + start + numbers, bounds, norms)

    best = Pairs.none()
    with one_thread_each():
        found = map_in_threads(block, range(0, len(allowed), at_once))
        for several in _batched(found):
            best = Pairs.joined([best, *several]).nearest(scan.k)
            _tighten(bounds, best, scan.k)
    return best


def images_at_once(scan: Scan, num_images: int) -> int:
    """Returns of how many images of a shard a thread reads pixels or sums at once.

    Args:
        scan: What passes over them.
        num_images: How many the shard has.
    """
    on_a_gpu = scan.device != "cpu"
    if not scan.takes_sums:
        return ON_A_GPU if on_a_gpu else IMAGES_AT_ONCE
    if on_a_gpu:
        return block_bounds.ON_A_GPU
    # Every thread has several turns, so that none waits long for the last.
    return min(SUMS_AT_ONCE, max(IMAGES_AT_ONCE, -(-num_images // (2 * num_threads()))))


def _read_some(
    shard: Shard, numbers: Int64[ndarray, "n"], places: Int64[ndarray, "some"]
) -> UInt8[ndarray, "some side side 3"]:
    """Reads some of those images of a shard that have these numbers in it."""
    parts = [shard.read(int(number), int(number) + 1) for number in numbers[places]]
    return np.concatenate(parts)


def _batched(found: Iterator[Pairs]) -> Iterator[list[Pairs]]:
    batch = []
    for pairs in found:
        batch.append(pairs)
        if len(batch) == _BLOCKS_BETWEEN_MERGES:
            yield batch
            batch = []
    yield batch


def _tighten(bounds: Int64[ndarray, "queries"], best: Pairs, k: int) -> None:
    """Lowers bounds, in place, to the ``k``-th distances found so far."""
    distances, _ = best.table(len(bounds), k)
    np.minimum(bounds, distances[:, -1], out=bounds)
