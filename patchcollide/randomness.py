"""Random generators: each purpose has a stream of its own, so that none sees another's numbers."""

import hashlib
from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What random numbers are for: with the seed of the settings it decides them.

    The numbers stay as they are, or runs of before would not replay. Some serve two or three
    purposes, which then draw from one stream each in an order of its own; new purposes get new
    ones. Benchmarks have 11, 12, 16 and 17.
    """

    START = 0
    """The noise that a descent begins with."""
    DESCENT = 1
    """The points between vertices at which each step computes gradients."""
    STOPPING = 2
    """The points between vertices by which a descent knows that it is done."""
    HULL = 3
    """The points between vertices that are measured."""
    DATA_PAIRS = 4
    """The pairs of images whose mean distance is that of a data set."""
    DATA_IMAGES = 5
    """The images that stand for a data set."""
    UNITS = 5
    """The blind units that vertices are to drive down."""
    CONTROL_PAIRS = 6
    """The pairs of images that collisions are compared with."""
    SHOWN = 6
    """The points between vertices that are shown."""
    CHECKED = 7
    """The points between vertices where a guess is checked."""
    EXACT_VERTICES = 7
    """The directions in which vertices of an exact polytope are looked for."""
    ADVERSARIAL = 8
    """Foolbox's attack."""
    EXTENTS = 8
    """The directions in which an exact polytope's extents are looked for."""
    NULL_HULLS = 8
    """The points between images that have nothing to do with each other."""
    AUDIT_DIRECTIONS = 13
    """The directions in which an audit looks for vertices."""
    ADEQUACY = 14
    """The images that the interval of an adequacy resamples."""
    TRUST = 15
    """The images that the interval of an audit's area under the curve resamples."""
    SPLIT = 18
    """What parts vertices that begin at one image."""
    FLOOR = 19
    """The noise that rounding would be, for what it does to features."""
    WORST = 20
    """The points between vertices at which a search for the worst one begins."""
    AIMED = 21
    """The points between vertices where a failure is likely."""
    WORST_ROUNDED = 22
    """The moves by which the worst of rounded points is looked for."""


def seeded(*seeds: int) -> torch.Generator:
    """Returns PyTorch's generator for a seed and the :class:`Purpose` it is split into."""
    state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def seeded_numpy(seed: int, purpose: Purpose) -> np.random.Generator:
    """Returns NumPy's generator for a seed and a purpose; it draws others than :func:`seeded`."""
    return np.random.default_rng([seed, purpose])


def keyed_generator(seed: int, key: str) -> np.random.Generator:
    """Returns NumPy's generator of its own for each ``seed`` and ``key``, such as a class."""
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.default_rng(
        np.random.SeedSequence(seed, spawn_key=(int.from_bytes(digest[:16]),))
    )
