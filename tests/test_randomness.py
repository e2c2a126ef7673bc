"""Every purpose's random numbers are those that runs of before were made with."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

import patchcollide
from patchcollide.randomness import Purpose, keyed_generator, seeded, seeded_numpy

PACKAGE = Path(patchcollide.__file__).parent

# As old runs have them: never change a number here.
NUMBERS = {
    "START": 0,
    "DESCENT": 1,
    "STOPPING": 2,
    "HULL": 3,
    "DATA_PAIRS": 4,
    "DATA_IMAGES": 5,
    "UNITS": 5,
    "CONTROL_PAIRS": 6,
    "SHOWN": 6,
    "CHECKED": 7,
    "EXACT_VERTICES": 7,
    "ADVERSARIAL": 8,
    "EXTENTS": 8,
    "NULL_HULLS": 8,
    "AUDIT_DIRECTIONS": 13,
    "ADEQUACY": 14,
    "TRUST": 15,
    "SPLIT": 18,
    "FLOOR": 19,
    "WORST": 20,
    "AIMED": 21,
    "WORST_ROUNDED": 22,
}


def test_purposes_keep_the_numbers_that_old_runs_were_made_with():
    assert {name: purpose.value for name, purpose in Purpose.__members__.items()} == NUMBERS


@pytest.mark.parametrize("purpose", Purpose)
def test_a_purpose_draws_what_its_number_draws(purpose):
    state = np.random.SeedSequence([3, purpose.value]).generate_state(1, np.uint64)[0]
    expected = torch.rand(4, generator=torch.Generator().manual_seed(int(state >> np.uint64(1))))
    assert torch.equal(torch.rand(4, generator=seeded(3, purpose)), expected)
    rng = np.random.default_rng([3, purpose.value])
    assert seeded_numpy(3, purpose).random(4).tolist() == rng.random(4).tolist()


def test_generators_draw_the_numbers_they_always_drew():
    assert torch.randint(1000, (3,), generator=seeded(7, Purpose.HULL)).tolist() == [711, 852, 872]
    assert seeded_numpy(7, Purpose.UNITS).integers(1000, size=3).tolist() == [558, 19, 994]
    assert keyed_generator(7, "church").integers(1000, size=3).tolist() == [408, 866, 27]


def _splits_a_seed_by_number(call: ast.Call) -> bool:
    """Whether a call derives a generator from a seed and a literal number."""
    name = ast.unparse(call.func).rpartition(".")[2]
    parts = call.args
    if name == "default_rng" and parts and isinstance(parts[0], ast.List | ast.Tuple):
        return True
    literal = any(isinstance(part, ast.Constant) for part in parts[1:])
    return name in {"seeded", "seeded_numpy"} and literal


@pytest.mark.parametrize("text", ["default_rng([seed, 4])", "seeded(config.seed, 5)"])
def test_a_seed_split_by_number_is_noticed(text):
    assert _splits_a_seed_by_number(ast.parse(text).body[0].value)


def test_seeds_are_split_by_named_purposes_only():
    for path in PACKAGE.rglob("*.py"):
        if path.name == "randomness.py":
            continue
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        calls = (node for node in nodes if isinstance(node, ast.Call))
        found = [call.lineno for call in calls if _splits_a_seed_by_number(call)]
        assert not found, f"{path.name}, lines {found}: name it in randomness.Purpose"
