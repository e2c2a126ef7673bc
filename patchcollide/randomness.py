"""Random generators: each purpose has a stream of its own, so that none sees another's numbers."""

import numpy as np
import torch


def seeded(*seeds: int) -> torch.Generator:
    """Returns a random generator for a seed and the purposes it is split into."""
    state = np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
