import math

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from patchcollide.config import Evaluation
from patchcollide.evaluation.dataset import dataset_distance
from patchcollide.evaluation.evaluate import Collision, evaluate_polytope
from patchcollide.evaluation.gaps import measure_gaps
from patchcollide.evaluation.intervals import wilson_interval
from patchcollide.evaluation.simplex import sticks_among, uniform_weights
from patchcollide.images.tensors import as_batch
from patchcollide.networks.targets import Target, TargetFeatures
from patchcollide.randomness import seeded
from patchcollide.store.writer import write_store


def pictures(num, seed):
    """Pictures in 0..255 with fractions, as an optimiser leaves them."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (num, 8, 8, 3)).astype(np.float32)
    return coarse.repeat(4, axis=1).repeat(4, axis=2)


def evaluate(network, unrounded, **settings):
    return measure(network, unrounded, **settings).figures


def measure(network, unrounded, *, seed=3, **settings):
    vertices = np.rint(unrounded).astype(np.uint8)
    source, target = np.rint(pictures(2, seed=1)).astype(np.uint8)
    collision = Collision(network, source, Target.of_picture(network, target), vertices, unrounded)
    asked = Evaluation(**({"num_samples": 25, "batch_size": 4} | settings))
    return evaluate_polytope(collision, asked, seed)


def direct_numbers(network, images, weights, target_class, *, rounding):
    """Success, top and class probability of samples, one at a time in double precision."""
    vertices = torch.from_numpy(images.astype(np.float64)).permute(0, 3, 1, 2)
    successes, top, of_class = [], [], []
    for row in weights:
        sample = sum(weight * vertex for weight, vertex in zip(row, vertices, strict=True))
        sample = (sample.round() if rounding else sample).float() / 255
        with torch.no_grad():
            chances = network(sample[None]).logits[0].double().softmax(dim=0)
        successes.append(int(chances.argmax()) == target_class)
        top.append(chances.max().item())
        of_class.append(chances[target_class].item())
    return np.mean(successes), np.mean(top), np.mean(of_class)


def wilson(hits, total):
    """The textbook formula at 95 %."""
    z, share = 1.959963984540054, hits / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return [max(0.0, centre - half), min(1.0, centre + half)]


@pytest.mark.parametrize(("num_vertices", "batch_size"), [(1, 4), (2, 1), (2, 100), (5, 4)])
def test_numbers_match_a_direct_computation(small_network, num_vertices, batch_size):
    unrounded = pictures(num_vertices, seed=4)
    rounded = np.rint(unrounded)
    measured = evaluate(small_network, unrounded, batch_size=batch_size)
    target_class = measured["target_class"]
    generator = seeded(3, 3)
    weights = uniform_weights(25, num_vertices, generator)
    sticks, _ = sticks_among(weights, generator)

    def direct(images, weights, rounding):
        return direct_numbers(small_network, images, weights, target_class, rounding=rounding)

    share, top, of_class = direct(rounded, weights, True)
    assert measured["num_samples"] == 25
    assert measured["num_vertices"] == num_vertices
    assert measured["success_rate"] == pytest.approx(share)
    assert measured["sample_probability_mean"] == pytest.approx(top, abs=1e-4)
    assert measured["sample_class_probability_mean"] == pytest.approx(of_class, abs=1e-4)
    share, top, _ = direct(rounded, sticks, True)
    assert measured["success_rate_stick_breaking"] == pytest.approx(share)
    assert measured["sample_probability_mean_stick_breaking"] == pytest.approx(top, abs=1e-4)
    # A quarter, rounded up, shows what rounding changes.
    fewer = uniform_weights(7, num_vertices, seeded(3, 3))
    share, top, of_class = direct(unrounded, fewer, False)
    loose = measured["unrounded"]
    assert loose["success_rate"] == pytest.approx(share)
    assert loose["sample_probability_mean"] == pytest.approx(top, abs=1e-6)
    assert loose["sample_class_probability_mean"] == pytest.approx(of_class, abs=1e-6)


@pytest.mark.parametrize("num_vertices", [2, 5])
def test_distances_are_those_of_8_bit_vertices_in_grey_levels(small_network, num_vertices):
    unrounded = pictures(num_vertices, seed=4)

    def distances(images):
        images = images.astype(np.float64)
        return [
            np.linalg.norm(images[a] - images[b])
            for a in range(num_vertices)
            for b in range(a + 1, num_vertices)
        ]

    measured = evaluate(small_network, unrounded)
    rounded = distances(np.rint(unrounded))
    assert measured["vertex_distance_mean"] == pytest.approx(np.mean(rounded), rel=1e-6)
    assert measured["vertex_distance_min"] == pytest.approx(min(rounded), rel=1e-6)
    expected = np.mean(distances(unrounded))
    assert measured["unrounded"]["vertex_distance_mean"] == pytest.approx(expected, rel=1e-6)


def test_a_single_vertex_has_no_distance(small_network):
    measured = evaluate(small_network, pictures(1, seed=4))
    assert measured["vertex_distance_mean"] == measured["vertex_distance_min"] == 0
    assert measured["unrounded"]["vertex_distance_mean"] == 0
    assert measured["success_rate"] in (0, 1)


@pytest.mark.parametrize("num_samples", [1, 2, 25])
def test_the_interval_is_wilsons(small_network, num_samples):
    seen = set()
    for seed in range(6):
        measured = evaluate(small_network, pictures(3, seed=seed), num_samples=num_samples)
        hits = round(num_samples * measured["success_rate"])
        expected = wilson(hits, num_samples)
        assert measured["success_interval"] == pytest.approx(expected, abs=1e-9)
        low, high = measured["success_interval"]
        assert 0 <= low <= measured["success_rate"] <= high <= 1
        seen.add(hits)
    assert len(seen) > 1


@pytest.mark.parametrize("total", [1, 2, 9, 2000])
def test_the_interval_is_scipys_to_the_last_bit(total):
    for hits in {0, 1, total // 3, total - 1, total}:
        found = binomtest(hits, total).proportion_ci(0.95, method="wilson")
        assert wilson_interval(hits, total) == [found.low, found.high]


def test_measurements_are_decided_by_the_seed(small_network):
    vertices = pictures(3, seed=4)
    assert evaluate(small_network, vertices) == evaluate(small_network, vertices)
    name = "sample_class_probability_mean"
    other = evaluate(small_network, vertices, seed=8)
    assert evaluate(small_network, vertices)[name] != other[name]


def test_headline_samples_are_8_bit_images_and_unrounded_ones_are_not(small_network):
    seen = []
    small_network.module.register_forward_pre_hook(
        lambda _, args: seen.append(255 * (args[0] * 0.25 + 0.5))
    )
    evaluate(small_network, pictures(3, seed=4), num_samples=20, batch_size=5)
    samples = [batch for batch in seen if len(batch) == 5]
    off = [(batch - batch.round()).abs().max().item() for batch in samples]
    assert len(off) == 6  # 20 samples, 5 more by stick-breaking, and 5
    assert max(off[:5]) < 1e-3
    assert off[5] > 0.1


def test_no_sample_is_asked_for_twice(small_network):
    seen = []
    small_network.module.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    # Of two vertices both ways of drawing are the same.
    measured = evaluate(small_network, pictures(2, seed=4), num_samples=900, batch_size=100)
    assert sum(seen) < 900 + 200 + 10
    assert measured["unrounded"]["num_samples"] == 200
    assert measured["success_rate_stick_breaking"] == measured["success_rate"]


def test_rounding_can_cost_what_unrounded_vertices_have(small_network):
    # The classifier sees nothing but whether the first pixel's red is above 100.4.
    with torch.no_grad():
        small_network.module.conv.weight.zero_()
        small_network.module.conv.bias.zero_()
        small_network.module.conv.weight[0, 0, 2, 2] = 1000
        small_network.module.conv.bias[0] = -1000 * (100.4 / 255 - 0.5) / 0.25
        small_network.module.classifier.weight.zero_()
        small_network.module.classifier.bias.copy_(torch.tensor([0.0, 0.5, -9.0, -9.0]))
        small_network.module.classifier.weight[0, 0] = 1.0
    target = np.full((32, 32, 3), 255, np.uint8)
    unrounded = np.full((2, 32, 32, 3), 100.49, np.float32)
    unrounded[1, ..., 1] = 7
    vertices, itself = np.rint(unrounded).astype(np.uint8), Target.of_picture(small_network, target)
    collision = Collision(small_network, target, itself, vertices, unrounded)
    measured = evaluate_polytope(collision, Evaluation(num_samples=9), seed=0).figures
    assert measured["target_class_name"] == "ant"
    # 100.49 is above the threshold, the 100 of an 8-bit file is not.
    assert measured["unrounded"]["success_rate"] == 1
    assert measured["success_rate"] == 0


@pytest.mark.parametrize("num_vertices", [1, 2, 5])
def test_each_vertex_is_described_by_its_class_and_its_gaps(small_network, num_vertices):
    unrounded = pictures(num_vertices, seed=4)
    measured = evaluate(small_network, unrounded)
    target = np.rint(pictures(2, seed=1)[1])
    assert len(measured["vertices"]) == num_vertices

    def network(image):
        with torch.no_grad():
            batch = torch.from_numpy(image / 255).permute(2, 0, 1)[None].float()
            output = small_network(batch)
        return output.pre_activation[0].tolist(), output.logits[0].double().softmax(dim=0)

    at_target, chances = network(target)
    assert measured["target_class"] == int(chances.argmax())
    assert measured["target_probability"] == pytest.approx(chances.max().item(), abs=1e-5)
    for image, described in zip(np.rint(unrounded), measured["vertices"], strict=True):
        z, chances = network(image)
        gaps = [abs(max(a, 0) - b) for a, b in zip(z, at_target, strict=True) if b > 0]
        shown = [max(a, 0.0) for a, b in zip(z, at_target, strict=True) if b <= 0]
        assert described["class"] == int(chances.argmax())
        assert described["class_name"] == ("ant", "bee", "cat", "dog")[described["class"]]
        assert described["probability"] == pytest.approx(chances.max().item(), abs=1e-5)
        assert described["active_feature_gap_mean"] == pytest.approx(np.mean(gaps), abs=1e-5)
        assert described["active_feature_gap_max"] == pytest.approx(max(gaps), abs=1e-5)
        violations = np.mean([value > 0 for value in shown])
        assert described["inactive_response_share"] == pytest.approx(violations, abs=1e-2)
        assert described["inactive_response_max"] == pytest.approx(max(shown), abs=1e-5)


def test_the_target_itself_is_a_perfect_vertex(small_network):
    target = np.rint(pictures(2, seed=1))[1:]
    measured = evaluate(small_network, target)
    assert measured["success_rate"] == 1
    assert measured["vertices"][0]["active_feature_gap_max"] < 1e-5
    assert measured["vertices"][0]["inactive_response_share"] == 0
    assert measured["target_class"] == measured["vertices"][0]["class"]


def test_gaps_of_the_hull_are_those_of_its_samples(small_network):
    unrounded = pictures(3, seed=4)
    measured = measure(small_network, unrounded).gaps
    source, target = np.rint(pictures(2, seed=1))
    weights = uniform_weights(25, 3, seeded(3, 3)).numpy()
    fewer = uniform_weights(7, 3, seeded(3, 3)).numpy()

    def gaps(images):
        with torch.no_grad():
            z = small_network(as_batch(np.concatenate([images, target[None]]))).pre_activation
        features = TargetFeatures.of(z[-1], small_network.blind)
        return measure_gaps(z[:-1], features)

    def samples(images, weights):
        return np.einsum("sv,vhwc->shwc", weights, images)

    for name, images in (
        ("hull", np.rint(samples(np.rint(unrounded), weights))),
        ("hull_unrounded", samples(unrounded, fewer)),
        ("vertices", np.rint(unrounded)),
        ("vertices_unrounded", unrounded),
    ):
        expected = gaps(images.astype(np.float32)).summary()
        for figure, values in measured[name].items():
            assert values == pytest.approx(expected[figure], abs=2e-3), (name, figure)
    (expected,) = gaps(source[None].astype(np.float32)).rows()
    assert measured["source"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("every", [1.0, -1.0])
def test_gaps_of_no_units_are_zero(small_network, every):
    # All units active, or all of them blind.
    with torch.no_grad():
        small_network.module.conv.weight.zero_()
        small_network.module.conv.bias.fill_(every)
    described = evaluate(small_network, pictures(1, seed=4))["vertices"][0]
    assert described["active_feature_gap_mean"] == described["active_feature_gap_max"] == 0
    assert described["inactive_response_share"] == described["inactive_response_max"] == 0


def test_a_network_without_class_names_is_described_by_numbers(small_network):
    small_network.class_names = ()
    measured = evaluate(small_network, pictures(1, seed=4))
    assert measured["vertices"][0]["class_name"] == str(measured["vertices"][0]["class"])
    assert measured["target_class_name"] == str(measured["target_class"])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_a_batch_is_channels_first_between_zero_and_one(dtype):
    images = np.zeros((1, 2, 3, 3), dtype)
    images[0, 1, 2] = (51, 102, 255)
    images.flags.writeable = False
    batch = as_batch(images)
    assert batch.dtype == torch.float32
    assert batch.shape == (1, 3, 2, 3)
    assert batch[0, :, 1, 2].tolist() == pytest.approx([0.2, 0.4, 1.0])
    assert batch.sum().item() == pytest.approx(1.6)


def all_distances(store, numbers):
    images = [store.image(int(number)).astype(np.float64) for number in numbers]
    return [
        math.sqrt(((first - second) ** 2).sum())
        for place, first in enumerate(images)
        for second in images[place + 1 :]
    ]


def test_the_data_set_distance_is_the_mean_over_pairs_of_different_images(small_store):
    distances = all_distances(small_store, range(6))
    measured = dataset_distance(small_store, 1500, seed=0, size=32)
    tolerance = 4 * np.std(distances) / math.sqrt(1500)
    assert measured == pytest.approx(np.mean(distances), abs=tolerance)


def test_a_single_pair_is_one_of_the_pairs_and_decided_by_the_seed(small_store):
    distances = all_distances(small_store, range(6))
    measured = [dataset_distance(small_store, 1, seed, size=32) for seed in range(20)]
    for distance in measured:
        assert any(distance == pytest.approx(known, rel=1e-6) for known in distances)
    assert len(set(measured)) > 5
    assert measured == [dataset_distance(small_store, 1, seed, size=32) for seed in range(20)]


def store_with(small_config, write_images, tmp_path, *, good, bad):
    folder = write_images("mixed", num=good)
    for number in range(bad):
        (folder / "class-0" / f"bad-{number}.png").write_bytes(b"not an image")
    return write_store(small_config, folder, tmp_path / "mixed-store")


def test_unreadable_images_do_not_count(small_config, write_images, tmp_path):
    store = store_with(small_config, write_images, tmp_path, good=2, bad=3)
    readable = np.flatnonzero(store.valid)
    assert len(readable) == 2
    (expected,) = all_distances(store, readable)
    assert dataset_distance(store, 30, seed=0, size=32) == pytest.approx(expected)


def test_one_readable_image_has_no_data_set_distance(small_config, write_images, tmp_path):
    store = store_with(small_config, write_images, tmp_path, good=1, bad=2)
    assert store.valid.sum() == 1
    assert dataset_distance(store, 10, seed=0, size=32) is None
