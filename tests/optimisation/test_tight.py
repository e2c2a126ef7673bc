"""The bound on features: a share of the target's, whatever the network; vertices part within it."""

import itertools
import math
import signal

import numpy as np
import pytest
import torch

from patchcollide.composition.parameterisations import FreePixels
from patchcollide.errors import InterruptedWorkError
from patchcollide.evaluation.feature_distances import relative_feature_distances
from patchcollide.evaluation.simplex import (
    combine,
    face_weights,
    round_to_8_bits,
    uniform_weights,
)
from patchcollide.networks.targets import TargetFeatures
from patchcollide.optimisation import tight
from patchcollide.optimisation.checkpoints import Checkpoint
from patchcollide.optimisation.descent import find_vertices
from patchcollide.optimisation.losses import log_power_mean, misfits, power_shares
from patchcollide.optimisation.multipliers import HIGHEST, weigh
from patchcollide.optimisation.passes import Passes
from patchcollide.optimisation.tight import TightObjective
from patchcollide.randomness import seeded
from tests.helpers.descents import KINDS, at_step, batch_of, parameterise, task_for
from tests.helpers.pictures import picture
from tests.optimisation.test_objective import REGIONS, random_features, slow_excess

PHASES = {"centre": 0.0, "vertices": 1.0}


def tight_task(network, tightness=0.3, *, hull_samples=3, bound=0.11, **optimiser):
    objective = {
        "tightness": tightness,
        "source_distance": bound,
        "hull_samples": hull_samples,
    }
    settings = {"steps": 200, "check_every": 5, "warmup_steps": 3}
    return task_for(network, objective=objective, **(settings | optimiser))


def run(task, start, checkpoint=None):
    return find_vertices(task, start, checkpoint, TightObjective(task, start.source))


def hull_distances(task, vertices, count=300):
    """Relative distances and classes of 8-bit points of a hull, its vertices first."""
    rounded = round_to_8_bits(vertices)
    random = uniform_weights(count, len(rounded), seeded(77))
    weights = torch.cat([torch.eye(len(rounded), dtype=random.dtype), random])
    with torch.no_grad():
        output = task.network(round_to_8_bits(combine(weights, rounded)))
    found = relative_feature_distances(output.pre_activation, task.target)
    return found, output.logits.argmax(dim=1)


@pytest.mark.parametrize("regions", REGIONS, ids=str)
def test_a_misfit_is_what_is_left_to_do_and_no_less_than_the_distance_of_features(regions):
    generator = seeded(4)
    z, target = random_features(regions, 23, generator, batch=6)
    low = regions.respond(target.pre_activation) - regions.floor
    scale = math.sqrt(sum(value**2 for value in low.tolist()))
    for row, found in zip(z.tolist(), misfits(z, target).tolist(), strict=True):
        squares = 0.0
        for value, at_target in zip(row, target.pre_activation.tolist(), strict=True):
            over = slow_excess(value, at_target, regions)
            squares += (value - at_target) ** 2 if over is None else max(0.0, over) ** 2
        assert found == pytest.approx(math.sqrt(squares) / scale, rel=1e-6)
    assert (relative_feature_distances(z, target) <= misfits(z, target) * (1 + 1e-9)).all()


@pytest.mark.parametrize("values", [[0.5], [0.1, 0.2], [1e-30, 3.0, 7.0, 0.25, 1e30]])
def test_a_power_mean_is_between_the_mean_and_the_largest_and_its_shares_are_its_slopes(values):
    logs = torch.tensor(values, dtype=torch.float64).log().requires_grad_()
    found = log_power_mean(logs.exp())
    value = float(found.detach())
    assert math.log(np.mean(values)) - 1e-12 <= value <= math.log(max(values)) + 1e-12
    (slopes,) = torch.autograd.grad(found, logs)
    torch.testing.assert_close(power_shares(logs.detach().exp()), slopes)


def test_a_bound_that_fails_counts_for_more_at_each_step_and_one_that_holds_for_less():
    slow = {"features": 3.0, "source": 0.0}
    failing = [weigh(slow, {"features": 0.3}, with_distance=True)["features"] for _ in range(50)]
    holding = [weigh(slow, {"features": -0.3}, with_distance=True)["features"] for _ in range(300)]
    assert failing == sorted(failing)
    assert holding == sorted(holding, reverse=True)
    assert failing[-1] > 0.95
    assert holding[-1] < 0.2


def test_shares_sum_to_one_and_the_source_gives_way_to_features():
    slow = {"features": 3.0, "source": 0.0}
    for _ in range(400):
        shares = weigh(slow, {"features": 2.0, "source": 2.0}, with_distance=True)
        assert sum(shares.values()) == pytest.approx(1)
    assert slow["features"] == HIGHEST["features"]
    assert shares["features"] > 10 * shares["source"] > 0
    assert weigh(slow, {"features": 1.0}, with_distance=False) == {"features": 1.0}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("images_per_pass", [1, 2, 99])
def test_a_step_follows_the_gradient_of_its_formula(small_network, kind, phase, images_per_pass):
    task = tight_task(small_network)
    ours, plain = parameterise(kind), parameterise(kind)
    objective = TightObjective(task, ours.source)
    objective.state["phase"] = PHASES[phase]
    objective._passes = Passes(small_network, images_per_pass)
    row = objective.backward(ours, 10, seeded(1))
    images = plain.images() if phase == "vertices" else plain.images()[:1]
    batch = images
    if phase == "vertices":
        batch = torch.cat([images, combine(face_weights(3, 3, seeded(1)), images)])
    r = misfits(small_network.pre_activation(batch), task.target)
    loss = row["share_features"] * r.pow(4).mean().log() / 4
    if kind == "pixels":
        differences = (images - plain.source).square().mean(dim=(1, 2, 3)).sqrt()
        loss = loss + row["share_source"] * differences.mean().log()
    if phase == "vertices":
        seen = images
        pairs = [(seen[a] - seen[b]).square().mean().sqrt() for a, b in [(0, 1), (0, 2), (1, 2)]]
        loss = loss - row["share_distance"] * torch.stack(pairs).mean().log()
    loss.backward()
    assert row["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    torch.testing.assert_close(ours.parameter.grad, plain.parameter.grad, rtol=1e-3, atol=1e-6)


def test_vertices_end_apart_within_the_bound_and_near_the_source(small_network):
    # As drawn, the network is as good as undecided between two classes of its target.
    with torch.no_grad():
        small_network.module.classifier.bias[tight_task(small_network).target_class] += 0.5
    task = tight_task(small_network, 0.2)
    assert task.target_margin > 0.1
    start = parameterise("pixels")
    vertices, progress = run(task, start)
    found, classes = hull_distances(task, vertices)
    assert found.max() <= 0.2
    assert (classes == task.target_class).all()
    apart = torch.pdist(vertices.flatten(1)) / math.sqrt(vertices[0].numel())
    assert apart.min() > 0.05
    assert progress.stopped_because


def test_steps_of_the_centre_keep_their_size_until_most_are_done(small_network):
    task = tight_task(small_network, 0.1, warmup_steps=0)
    start = parameterise("pixels")
    objective = TightObjective(task, start.source)
    sizes = [objective.step_size(step, start) for step in range(100)]
    assert sizes[:70] == [sizes[0]] * 70
    assert all(first > second for first, second in itertools.pairwise(sizes[70:]))
    assert 0.05 * sizes[0] <= sizes[-1] < 0.1 * sizes[0]


@pytest.mark.parametrize(
    ("kind", "gained", "expected"),
    [
        # The way to the aim is 2.6, and after 40 steps of the centre's 100 another 60 are left.
        ("pixels", 0.3, [0.4, 0.4, 0.4]),
        ("pixels", 0.1, [0.4, 0.8, 1.0]),
        ("patches", 0.0, [0.5, 0.5, 0.5]),
    ],
)
def test_steps_of_the_centre_grow_where_it_would_come_nowhere_near_its_aim(
    small_network, kind, gained, expected
):
    task = tight_task(small_network, 0.1, steps=200, check_every=5)
    start = parameterise(kind)
    objective = TightObjective(task, start.source)
    sizes = []
    for step in range(5, 65, 5):
        log_tau = -gained * step / 20
        objective.state |= {"logs": 5 * log_tau, "num_logs": 5.0, "reached": log_tau}
        objective.check(start, step)
        sizes.append(objective.state["size"])
    assert sizes[3::4] == expected


@pytest.mark.parametrize(
    ("kind", "num_vertices", "expected"),
    [("pixels", 3, [1, 1, 1, 6]), ("patches", 3, [1, 6]), ("pixels", 1, [1, 1])],
)
def test_of_pixels_the_centre_moves_several_times_in_a_step(
    small_network, kind, num_vertices, expected
):
    task = tight_task(small_network, 1e-6, num_vertices=num_vertices, steps=2)
    passed = []

    def note(_, args):
        if torch.is_grad_enabled():
            passed.append(len(args[0]))

    small_network.module.register_forward_pre_hook(note)
    _, progress = run(task, parameterise(kind, num_vertices=num_vertices))
    assert passed == expected
    assert len(progress.history) == 2


@pytest.mark.parametrize(("goal", "expected"), [(0.5, 0.1), (0.08, 0.08)])
def test_a_widened_bound_narrows_to_what_vertices_reach(small_network, goal, expected):
    task = tight_task(small_network, 0.1, num_vertices=2)
    # Vertices as good as at the target.
    start = FreePixels(picture(2), num_vertices=2, output_size=32, noise=0.0, generator=seeded(0))
    objective = TightObjective(task, start.source)
    with torch.no_grad():
        objective.check(start, 3)
        objective.state |= {"phase": 1.0, "goal": goal}
        small_network.module.classifier.bias[task.target_class] += 5
        objective.check(start, 6)
    assert objective.state["goal"] == expected


@pytest.mark.parametrize(("goal", "last"), [(0.5, 0.1), (0.08, 0.08)])
def test_a_widened_bound_falls_to_what_was_asked_in_the_end(small_network, goal, last):
    objective = TightObjective(tight_task(small_network, 0.1, steps=200), None)
    objective.state["goal"] = goal
    assert {objective._goal(step) for step in (1, 100, 170)} == {goal}
    assert objective._goal(185) == pytest.approx(math.sqrt(goal * last))
    assert objective._goal(200) == pytest.approx(last)
    objective.state["halvings"] = 0.0
    assert objective._goal(1) == pytest.approx(last)


def kept_of(task, found, step, monkeypatch, **state):
    """How far apart what is kept is, after vertices so far apart with features so near."""
    start = FreePixels(picture(2), num_vertices=2, output_size=32, noise=0.0, generator=seeded(0))
    objective = TightObjective(task, start.source)
    objective.state |= {"phase": PHASES["vertices"]}
    middle, offset = start.parameter.detach().clone(), torch.zeros_like(start.parameter)
    offset[0], offset[1] = 1, -1
    kept = []
    for spread, tau in found:
        row = {"validation_tau_max": tau, "validation_margin": 1e6}
        monkeypatch.setattr(tight, "validate_features", lambda *_, row=row: dict(row))
        with torch.no_grad():
            start.parameter.copy_(middle + spread * offset)
            # Nothing is far apart within 0.5 once something is nearer.
            objective.state |= {"goal": 0.5, **state}
            objective.check(start, step)
        assert objective.kept is not None
        kept.append(float((objective.kept - middle).abs().max()))
    return kept


@pytest.mark.parametrize(
    ("bound", "halvings", "expected"),
    [
        (0.0, 0.0, [0.1, 0.2, 0.05, 0.05]),
        (1e-6, 0.0, [0.1, 0.1, 0.05, 0.05]),
        (0.0, 1.0, [0.1, 0.2, 0.2, 0.3]),
    ],
)
def test_features_within_what_was_asked_come_before_distance_within_a_wider_bound(
    small_network, bound, halvings, expected, monkeypatch
):
    """In the end, and whether or not images hold the source's bound."""
    task = tight_task(small_network, 0.1, num_vertices=2, bound=bound)
    found = [(0.1, 0.3), (0.2, 0.3), (0.05, 0.09), (0.3, 0.3)]
    kept = kept_of(task, found, 1, monkeypatch, halvings=halvings)
    assert kept == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(1, [0.2, 0.2, 0.3]), (190, [0.2, 0.19, 0.19])])
def test_where_what_was_asked_is_out_of_reach_features_count_for_more_than_distance_in_the_end(
    small_network, step, expected, monkeypatch
):
    task = tight_task(small_network, 0.1, num_vertices=2, bound=0.0)
    kept = kept_of(task, [(0.2, 0.4), (0.19, 0.3), (0.3, 0.45)], step, monkeypatch)
    assert kept == pytest.approx(expected)


def test_a_looser_bound_lets_vertices_farther_apart(small_network):
    spreads = []
    for tightness in (0.05, 0.2):
        task = tight_task(small_network, tightness, bound=0.0)
        vertices, _ = run(task, parameterise("pixels"))
        spreads.append(float(torch.pdist(vertices.flatten(1)).mean()))
    assert spreads == sorted(spreads)


def test_the_source_s_bound_holds_images_nearer_to_it(small_network):
    far = []
    for bound in (0.0, 0.11):
        start = parameterise("pixels")
        # In small steps images stay near the source by themselves.
        task = tight_task(small_network, bound=bound, steps=100, learning_rate=5.0)
        vertices, _ = run(task, start)
        far.append(float((vertices - start.source).square().mean().sqrt()))
    assert far[1] < 0.8 * far[0], far


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_depends_on_the_units_of_the_features(small_network, kind):
    """The same network with features of another scale: only rounding tells them apart."""
    found = []
    for scale in (1.0, 4096.0):
        layers = small_network.module
        with torch.no_grad():
            layers.conv.weight *= scale
            layers.conv.bias *= scale
            layers.classifier.weight /= scale
        found.append(run(tight_task(small_network, steps=30), parameterise(kind))[0])
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0.02)


def test_a_bound_out_of_reach_ends_with_the_nearest_that_was_found(small_network):
    task = tight_task(small_network, 1e-6, steps=80)
    vertices, progress = run(task, parameterise("patches"))
    name = "validation_tau_max"
    validated = [row[name] for row in progress.history if name in row]
    found, _ = hull_distances(task, vertices)
    assert found.max() > 1e-3
    assert found.max() <= 1.5 * min(validated)
    assert progress.weights["goal"] > 1e-3


def test_the_target_s_own_image_holds_any_bound(small_network):
    start = FreePixels(picture(2), num_vertices=2, output_size=32, noise=0.1, generator=seeded(0))
    task = tight_task(small_network, 0.1, num_vertices=2)
    vertices, _ = run(task, start)
    assert hull_distances(task, vertices)[0].max() <= 0.1


def test_one_vertex_is_the_centre(small_network):
    task = tight_task(small_network, 0.1, num_vertices=1)
    start = parameterise("pixels", num_vertices=1)
    vertices, progress = run(task, start)
    assert vertices.shape[0] == 1
    assert hull_distances(task, vertices, count=1)[0].max() <= 0.1
    assert progress.stopped_because == "the features come no nearer"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stopped_at", [3, 5, 15, 30])
def test_an_interrupted_descent_goes_on_bit_for_bit(small_network, kind, stopped_at, tmp_path):
    task = tight_task(small_network, steps=31, checkpoint_every=7)
    expected, uninterrupted = run(task, parameterise(kind))
    assert uninterrupted.step == 31
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    hook = at_step(small_network, stopped_at, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(InterruptedWorkError):
        run(task, parameterise(kind), checkpoint)
    hook.remove()
    vertices, progress = run(task, parameterise(kind), checkpoint)
    assert torch.equal(vertices, expected)
    assert progress.weights == uninterrupted.weights
    again, _ = run(task, parameterise(kind), checkpoint)
    assert torch.equal(again, expected)


def test_features_are_those_of_the_target_image(small_network):
    with torch.no_grad():
        z = small_network(batch_of(picture(2))).pre_activation
    target = TargetFeatures.of(z[0], small_network.blind)
    assert float(misfits(z, target)) == pytest.approx(0, abs=1e-5)
