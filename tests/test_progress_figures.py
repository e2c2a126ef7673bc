"""Long work tells more than how many items are done: its step, and its loss, tau or margin."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from patchcollide.evaluation.claims import compare_with_others, walk_edges
from patchcollide.evaluation.sampling import sample_classes, sample_hull
from patchcollide.images.digits import read_digits
from patchcollide.images.tensors import as_batch
from patchcollide.networks.models.digit_networks import build_digit_network
from patchcollide.networks.models.training import BATCH_SIZE, train_module
from patchcollide.networks.targets import Target
from patchcollide.progress import recording
from tests.helpers.presence import present
from tests.helpers.records import last_of, records


@pytest.fixture
def log(tmp_path):
    with recording(tmp_path / "log"):
        yield tmp_path / "log"


def pictures(count):
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_a_walk_tells_the_smallest_margin_so_far(log, small_network):
    found = walk_edges(small_network, as_batch(pictures(3)), 1, num_edges=2, max_pieces=20)
    sampled = min(edge["sampled_margin"] for edge in found["edges"])
    assert last_of(log, "Sampling the edges")["margin"] == sampled
    walked = last_of(log, "Walking the edges")
    assert walked["margin"] == min(sampled, present(found["worst_margin"]))
    assert walked["step"] == 2
    # At once, not only when an edge, which takes long, is walked.
    margins = [each["margin"] for each in records(log) if each["label"] == "Walking the edges"]
    assert margins[0] <= sampled


def test_passes_over_other_images_are_told(log, small_network):
    target = Target.of_picture(small_network, pictures(1)[0]).features(small_network)
    hull: Any = {"feature_distance_relative": {"mean": 0.1, "max": 0.2}}
    compare_with_others(small_network, target, list(pictures(3)), hull, seed=0)
    assert last_of(log, "Comparing with other images")["done"] == 1


@pytest.mark.parametrize("sample", [sample_classes, sample_hull])
def test_samples_tell_the_largest_tau_so_far(log, small_network, sample):
    target = Target.of_picture(small_network, pictures(1)[0])
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], dtype=torch.float64)
    found = sample(
        small_network,
        as_batch(pictures(2)),
        weights,
        0,
        target.features(small_network),
        batch_size=2,
    )
    samples = found[0] if isinstance(found, tuple) else found
    told = last_of(log, "Sampling the polytope")
    assert (told["done"], told["tau"]) == (2, pytest.approx(float(samples.feature_distances.max())))


def test_training_tells_its_step_and_loss_within_an_epoch(log):
    digits = read_digits(None, "test")
    few = slice(BATCH_SIZE + 1)
    digits = replace(digits, images=digits.images[few], labels=digits.labels[few])
    torch.manual_seed(0)
    train_module(build_digit_network("mlp", "relu", 0), digits, digits, epochs=3, seed=0)
    told = last_of(log, "Training")
    assert told["step"] == told["total"] == 3 * 2
    assert 0 < told["loss"] < 10
