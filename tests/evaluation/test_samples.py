import numpy as np
import pytest
import torch

from patchcollide.config import Evaluation
from patchcollide.errors import RunError
from patchcollide.evaluation.samples import (
    NEAREST,
    HullSamples,
    interpolate,
    interpolation_error,
    joined,
    load_samples,
    save_samples,
)
from patchcollide.evaluation.sampling import (
    check_weights,
    null_weights,
    sample_around,
    sample_hull,
)
from patchcollide.evaluation.simplex import combine, round_to_8_bits, tour, uniform_weights
from patchcollide.images.tensors import as_batch
from patchcollide.io.hdf5 import write_hdf5
from patchcollide.networks.targets import Target, TargetFeatures
from patchcollide.randomness import seeded
from patchcollide.report.charts import draw_samples


def some_samples(count, num_vertices, rng):
    return HullSamples(
        weights=rng.dirichlet(np.ones(num_vertices), count),
        classes=rng.integers(0, 4, count),
        probabilities=rng.random(count, np.float32),
        target_probabilities=rng.random(count, np.float32),
        feature_distances=rng.random(count, np.float32),
    )


def guess_one(samples, point):
    """The same guess for one point, in plain loops."""
    squares = [
        sum((a - b) ** 2 for a, b in zip(point, row, strict=True)) for row in samples.weights
    ]
    nearest = sorted(range(len(squares)), key=lambda number: (squares[number], number))[:NEAREST]
    influence = [1 / (squares[number] + 1e-12) ** 2 for number in nearest]
    values = [float(samples.target_probabilities[number]) for number in nearest]
    total = sum(part * value for part, value in zip(influence, values, strict=True))
    return total / sum(influence)


@pytest.mark.parametrize(("count", "num_vertices"), [(1, 1), (2, 3), (70, 5), (15, 2)])
def test_a_guess_is_that_of_a_plain_loop(count, num_vertices, rng):
    samples = some_samples(count, num_vertices, rng)
    points = rng.dirichlet(np.ones(num_vertices), 67)
    expected = [guess_one(samples, point) for point in points]
    np.testing.assert_allclose(interpolate(samples, points), expected, rtol=1e-9)


def test_at_a_sample_the_guess_is_the_samples_own(rng):
    samples = some_samples(200, 4, rng)
    guesses = interpolate(samples, samples.weights)
    np.testing.assert_allclose(guesses, samples.target_probabilities, atol=1e-4)
    error = interpolation_error(samples, samples)
    assert error["count"] == 200
    assert error["mean"] <= error["quantile"] <= error["max"] < 1e-4


def test_a_guess_lies_between_the_smallest_and_the_largest_sample(rng):
    samples = some_samples(40, 3, rng)
    guesses = interpolate(samples, rng.dirichlet(np.ones(3), 100))
    values = samples.target_probabilities
    assert values.min() - 1e-6 <= guesses.min() <= guesses.max() <= values.max() + 1e-6


@pytest.mark.parametrize("rounding", [True, False])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_samples_are_what_the_network_says_of_each_alone(small_network, batch_size, rounding, rng):
    vertices = as_batch(rng.integers(0, 256, (3, 32, 32, 3), np.uint8))
    weights = uniform_weights(9, 3, seeded(1, 2))
    with torch.no_grad():
        z = small_network(vertices[:1]).pre_activation[0]
    features = TargetFeatures.of(z, small_network.blind)
    samples, gaps, alike = sample_hull(
        small_network, vertices, weights, 2, features, batch_size=batch_size, rounding=rounding
    )
    assert len(samples) == len(gaps.feature_distance) == len(alike.tau) == 9
    for number, row in enumerate(weights):
        image = sum(float(w) * v.double() for w, v in zip(row, vertices, strict=True))
        image = (255 * image).round() / 255 if rounding else image
        with torch.no_grad():
            output = small_network(image[None].float())
        chances = output.probabilities[0]
        assert samples.classes[number] == int(chances.argmax())
        assert samples.probabilities[number] == pytest.approx(float(chances.max()), abs=1e-4)
        assert samples.target_probabilities[number] == pytest.approx(float(chances[2]), abs=1e-4)
        off = (output.pre_activation[0].relu() - z.relu()).norm() / z.relu().norm()
        assert samples.feature_distances[number] == pytest.approx(float(off), rel=1e-3)
        cosine = torch.cosine_similarity(output.pre_activation[0].relu(), z.relu(), dim=0)
        assert float(alike.cosine[number]) == pytest.approx(float(cosine), abs=1e-4)


def test_files_of_the_first_version_are_read_without_distances(tmp_path, rng):
    samples = some_samples(3, 2, rng)
    columns = {**vars(samples), "active_gaps": samples.feature_distances}
    del columns["feature_distances"]
    kinds = ["hull", "tour", "check"]
    write_hdf5(
        tmp_path / "s.h5",
        encoding="patchcollide-samples",
        version="1",
        datasets={f"{kind}_{name}": value for kind in kinds for name, value in columns.items()},
        attributes={"fingerprint": "a", "kinds": kinds},
    )
    found = load_samples(tmp_path / "s.h5", "a")["hull"]
    assert np.isnan(found.feature_distances).all()
    assert np.array_equal(found.target_probabilities, samples.target_probabilities)
    assert len(draw_samples(found, None, 0.5)) == 1
    assert len(draw_samples(samples, found, 0.5)) == 2


def test_samples_are_read_as_they_were_written(tmp_path, rng):
    sets = {kind: some_samples(3, 2, rng) for kind in ("hull", "tour", "check")}
    sets["null"] = some_samples(4, 6, rng)
    save_samples(tmp_path / "s.h5", sets, "a" * 64)
    again = load_samples(tmp_path / "s.h5", "a" * 64)
    assert list(again) == list(sets)
    for kind, samples in sets.items():
        for name, value in vars(samples).items():
            np.testing.assert_array_equal(getattr(again[kind], name), value)


def test_samples_of_other_vertices_are_refused(tmp_path, rng):
    sets = {kind: some_samples(3, 2, rng) for kind in ("hull", "tour", "check")}
    save_samples(tmp_path / "s.h5", sets, "a" * 64)
    with pytest.raises(RunError, match="of other vertices than the PNG files"):
        load_samples(tmp_path / "s.h5", "b" * 64)


def test_a_file_without_a_tour_is_refused(tmp_path, rng):
    save_samples(tmp_path / "s.h5", {"hull": some_samples(3, 2, rng)}, "a" * 64)
    with pytest.raises(RunError, match="it holds samples of"):
        load_samples(tmp_path / "s.h5", "a" * 64)


def test_sets_are_joined_in_order(rng):
    first, second = some_samples(2, 3, rng), some_samples(3, 3, rng)
    both = joined(first, second)
    np.testing.assert_array_equal(both.weights, [*first.weights, *second.weights])
    np.testing.assert_array_equal(both.classes, [*first.classes, *second.classes])


@pytest.mark.parametrize("num_samples", [1, 2, 7])
@pytest.mark.parametrize("num_vertices", [1, 2, 5])
def test_checks_are_points_of_the_polytope(num_samples, num_vertices):
    weights = check_weights(num_samples, num_vertices, seed=3)
    assert weights.shape == (num_samples, num_vertices)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(dim=1), torch.ones(num_samples, dtype=torch.float64))
    assert torch.equal(weights, check_weights(num_samples, num_vertices, seed=3))
    assert num_vertices == 1 or not torch.equal(
        weights, check_weights(num_samples, num_vertices, 4)
    )


@pytest.mark.parametrize(("num_images", "num_vertices"), [(1, 1), (9, 4), (3, 3)])
def test_a_null_combines_as_many_images_as_there_are_vertices(num_images, num_vertices):
    weights = null_weights(50, num_images, num_vertices, seed=3)
    assert weights.shape == (50, num_images)
    assert ((weights > 0).sum(dim=1) == num_vertices).all()
    assert torch.allclose(weights.sum(dim=1), torch.ones(50, dtype=torch.float64))
    # Every image is used by some sample.
    assert (weights > 0).any(dim=0).all()


def test_points_that_a_tour_passes_twice_are_asked_for_once(small_network, rng):
    settings = Evaluation(tour_points=4, check_samples=6, batch_size=5)
    side = small_network.input_size
    pictures = rng.integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    target, seen = Target.of_picture(small_network, pictures[0]), []
    small_network.module.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    found = sample_around(small_network, target, pictures, settings, 0)
    weights = tour(3, 4)
    different = np.unique(weights, axis=0)
    assert len(different) < len(weights)
    assert sum(seen) == len(different) + 6
    assert np.array_equal(found["tour"].weights, weights)
    chances = small_network.probabilities(
        round_to_8_bits(combine(torch.from_numpy(weights), as_batch(pictures)))
    ).numpy()
    assert np.array_equal(found["tour"].classes, chances.argmax(axis=1))
    np.testing.assert_allclose(found["tour"].probabilities, chances.max(axis=1), rtol=1e-5)
