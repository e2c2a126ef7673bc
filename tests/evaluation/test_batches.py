import pytest
import torch

from patchcollide.config import Evaluation
from patchcollide.evaluation import batches
from patchcollide.evaluation.batches import batch_size, fastest_size


@pytest.fixture(autouse=True)
def _nothing_measured(monkeypatch):
    monkeypatch.setattr(batches, "_found", {})


def timed(monkeypatch, seconds):
    """Has passes of each size take so long."""
    asked = []

    def pass_seconds(_, images):
        asked.append(len(images))
        return seconds[len(images)]

    monkeypatch.setattr(batches, "_seconds", pass_seconds)
    return asked


def test_a_size_that_was_set_is_kept(small_network, monkeypatch):
    asked = timed(monkeypatch, {})
    assert batch_size(small_network, Evaluation(batch_size=3), 10_000) == 3
    assert not asked


def test_few_images_are_not_worth_a_measurement(small_network, monkeypatch):
    asked = timed(monkeypatch, {})
    assert batch_size(small_network, Evaluation(), 100) == 8
    assert not asked


def test_a_size_is_measured_once(small_network, monkeypatch):
    asked = timed(monkeypatch, {4: 1.0, 16: 2.0, 64: 9.0})
    assert batch_size(small_network, Evaluation(), 2000) == 16
    before = len(asked)
    assert batch_size(small_network, Evaluation(), 100) == 16
    assert len(asked) == before


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ({4: 1.0, 16: 4.0}, 4),
        ({4: 1.0, 16: 2.0, 64: 7.5}, 16),
        ({4: 1.0, 16: 2.0, 64: 4.0, 256: 8.0}, 256),
    ],
)
def test_a_larger_batch_must_gain(small_network, monkeypatch, seconds, expected):
    asked = timed(monkeypatch, seconds)
    assert fastest_size(small_network) == expected
    assert set(asked) == set(seconds)


def test_batches_keep_to_memory(small_network, monkeypatch):
    monkeypatch.setattr(batches, "_MOST_VALUES", 16 * 3 * 32 * 32)
    timed(monkeypatch, {4: 1.0, 16: 2.0, 64: 4.0, 256: 8.0})
    assert fastest_size(small_network) == 16


def test_a_measurement_runs_the_network(small_network):
    seen = []
    small_network.module.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    assert fastest_size(small_network) in {4, 16, 64, 256}
    assert seen[:4] == [4, 4, 4, 16]
    assert not any(p.requires_grad for p in small_network.module.parameters())
    assert torch.get_num_threads() >= 1
