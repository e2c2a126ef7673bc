import math
import signal
import threading
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.composition.parameterisations import FreePixels, PatchMixture
from patchcollide.config import Objective, Optimiser
from patchcollide.errors import DivergedError, InterruptedWorkError, OutOfMemoryError, RunError
from patchcollide.evaluation.simplex import combine, edge_middles, round_to_8_bits, uniform_weights
from patchcollide.geometry import PatchGrid
from patchcollide.io.hdf5 import write_hdf5
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import TargetFeatures
from patchcollide.optimisation.checkpoints import ENCODING, VERSION, Checkpoint
from patchcollide.optimisation.descent import find_vertices, history_columns
from patchcollide.optimisation.objective import StepLoss
from patchcollide.optimisation.stopping import VertexSearch, next_diversity, sure_enough, validate
from patchcollide.optimisation.units import choose_units
from patchcollide.progress import stop_requests, termination_as_interrupt
from patchcollide.randomness import seeded

GRID = PatchGrid(32, 8, 4, 8)
KINDS = ["pixels", "patches"]


def picture(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)


def batch_of(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def parameterise(kind, *, num_vertices=3, seed=5):
    options = {
        "num_vertices": num_vertices,
        "output_size": 32,
        "noise": 0.1,
        "generator": seeded(seed, 0),
    }
    if kind == "pixels":
        return FreePixels(picture(1), **options)
    shape = (GRID.num_positions, 6, 8, 8, 3)
    coarse = np.random.default_rng(9).integers(0, 256, (*shape[:2], 2, 2, 3), dtype=np.uint8)
    patches = coarse.repeat(4, axis=2).repeat(4, axis=3)
    return PatchMixture(patches, GRID, coefficient_size=4, **options)


def search_for(network, *, objective=None, target_class=None, seed=5, **optimiser):
    settings = {"steps": 6, "check_every": 3, "validation_samples": 20, "stop_distance": 1e9}
    with torch.no_grad():
        output = network(batch_of(picture(2)))
    target = TargetFeatures.of(output.pre_activation[0], network.blind)
    return VertexSearch(
        network=network,
        target=target,
        target_class=int(output.logits.argmax()) if target_class is None else target_class,
        target_probability=float(output.logits.softmax(dim=1).max()),
        target_margin=float(output.logits.softmax(dim=1)[0].topk(2).values.diff().abs()),
        units=choose_units(target, "first", 3, seeded(seed)),
        objective=Objective(**(objective or {})),
        optimiser=Optimiser(**(settings | optimiser)),
        seed=seed,
    )


def batches_seen(network):
    """Returns a list that every batch is added to, as 0..1, when the network gets it."""
    seen = []
    network.module.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].detach() * 0.25 + 0.5)
    )
    return seen


def at_step(network, number, action):
    """Calls ``action`` within the network's pass of a step; validation passes do not count."""
    passes = []

    def hook(*_):
        if torch.is_grad_enabled():
            passes.append(None)
            if len(passes) == number:
                action()

    return network.module.register_forward_pre_hook(hook)


def without_seconds(history):
    return [{name: row[name] for name in row if name != "seconds"} for row in history]


def active_gap(network, search, images):
    with torch.no_grad():
        z = network(images).pre_activation
    return (z - search.target.pre_activation)[:, search.target.active].abs().mean().item()


@pytest.mark.parametrize(("kind", "rate", "factor"), [("pixels", 2.0, 20), ("patches", 0.5, 2)])
def test_vertices_approach_the_target_and_the_loss_falls(small_network, kind, rate, factor):
    search = search_for(
        small_network, steps=120, check_every=120, learning_rate=rate, objective={"diversity": 0}
    )
    parameterisation = parameterise(kind)
    before = active_gap(small_network, search, parameterisation.images())
    vertices, progress = find_vertices(search, parameterisation)
    assert vertices.shape == (3, 3, 32, 32)
    assert not vertices.requires_grad
    assert vertices.min() >= 0
    assert vertices.max() <= 1 + 1e-6
    assert active_gap(small_network, search, vertices) < before / factor
    assert progress.history[-1]["loss"] < progress.history[0]["loss"]
    assert progress.history[-1]["hull_active"] < progress.history[0]["hull_active"]
    assert progress.step == 120
    assert progress.stopped_because == "all steps were done"


def test_free_pixels_collide_with_the_target_and_so_does_what_lies_between(small_network):
    search = search_for(
        small_network,
        steps=150,
        check_every=150,
        learning_rate=2.0,
        objective={"active": 100.0, "diversity": 0.0},
    )
    vertices, progress = find_vertices(search, parameterise("pixels"))
    assert progress.history[-1]["validation_success"] == 1
    with torch.no_grad():
        middle = small_network(vertices.mean(dim=0, keepdim=True)).logits.argmax().item()
    assert middle == search.target_class


@pytest.mark.parametrize("kind", KINDS)
def test_diversity_moves_vertices_apart(small_network, kind):
    distances = []
    for diversity in (0.0, 100.0):
        search = search_for(
            small_network, steps=30, learning_rate=0.1, objective={"diversity": diversity}
        )
        _, progress = find_vertices(search, parameterise(kind))
        distances.append(progress.history[-1]["distance"])
    assert distances[1] > 1.5 * distances[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_on_total_variation_makes_images_smoother(small_network, kind):
    ends = []
    for weight in (1e-9, 1e5):
        search = search_for(
            small_network, steps=20, learning_rate=0.02, objective={"total_variation": weight}
        )
        _, progress = find_vertices(search, parameterise(kind))
        ends.append(progress.history[-1]["total_variation"])
    assert 0 < ends[1] < ends[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", ["hinge", "absolute"])
@pytest.mark.parametrize("num_vertices", [1, 2, 3])
@pytest.mark.parametrize("hull_samples", [0, 1])
def test_a_history_has_a_row_for_each_step(
    small_network, kind, penalty, num_vertices, hull_samples
):
    objective = {"penalty": penalty, "hull_samples": hull_samples, "total_variation": 1.0}
    search = search_for(small_network, objective=objective, steps=3, check_every=2)
    _, progress = find_vertices(search, parameterise(kind, num_vertices=num_vertices))
    expected = ["step", "loss", "active", "inactive", "unit"]
    expected += ["hull_active", "hull_inactive"] if hull_samples and num_vertices > 1 else []
    expected += ["distance"] if num_vertices > 1 else []
    expected += ["total_variation", "seconds"]
    checks = ["validation_success", "validation_probability", "validation_margin"]
    checks += ["validation_gap"]
    checks += ["validation_distance", "diversity"]
    assert [list(row) for row in progress.history] == [
        expected,
        expected + checks,
        expected + checks,  # the last step is always checked
    ]
    assert [row["step"] for row in progress.history] == [0, 1, 2]
    assert history_columns(progress.history) == expected + checks
    assert all(math.isfinite(value) for row in progress.history for value in row.values())
    assert (progress.history[-1]["validation_distance"] == 0) == (num_vertices == 1)


def test_the_first_loss_is_the_weighted_sum_of_its_terms(small_network):
    objective = {
        "active": 2.0,
        "inactive": 3.0,
        "diversity": 0.5,
        "total_variation": 7.0,
        "hull_samples": 4,
    }
    search = search_for(small_network, objective=objective, steps=1)
    parameterisation = parameterise("pixels")
    images = parameterisation.images().detach().clone()
    _, progress = find_vertices(search, parameterisation)
    weights = uniform_weights(4, 3, seeded(5, 1))
    target = search.target.pre_activation
    first_blind = [number for number in range(len(target)) if target[number] <= 0][:3]
    active, inactive, unit = [], [], []
    with torch.no_grad():
        rows = small_network(torch.cat([images, combine(weights, images)])).pre_activation.double()
    for number, z in enumerate(rows):
        active.append(((z - target)[target > 0] ** 2).sum().item() / 2)
        inactive.append(z[target <= 0].clamp(min=0).sum().item())
        if number < 3:
            unit.append(z[first_blind[number]].item())
    pairs = [(0, 1), (0, 2), (1, 2)]
    distance = np.mean([255 * (images[a] - images[b]).norm().item() for a, b in pairs])
    row = progress.history[0]
    expected = (
        2 * np.mean(active)
        + 3 * (np.mean(inactive) + np.mean(unit))
        - 0.5 * distance
        + 7 * row["total_variation"]
    )
    assert row["loss"] == pytest.approx(expected, rel=1e-4)
    assert row["active"] == pytest.approx(np.mean(active[:3]), rel=1e-4)
    assert row["hull_active"] == pytest.approx(np.mean(active[3:]), rel=1e-4)
    assert row["inactive"] == pytest.approx(np.mean(inactive[:3]), rel=1e-4)
    assert row["hull_inactive"] == pytest.approx(np.mean(inactive[3:]), rel=1e-4)
    assert row["unit"] == pytest.approx(np.mean(unit), rel=1e-4)
    assert row["distance"] == pytest.approx(distance, rel=1e-4)


def test_the_absolute_penalty_leaves_out_the_unit_that_is_driven_down(small_network):
    search = search_for(
        small_network, objective={"penalty": "absolute", "hull_samples": 0}, steps=1
    )
    parameterisation = parameterise("pixels", num_vertices=2)
    with torch.no_grad():
        rows = small_network(parameterisation.images()).pre_activation.double()
    _, progress = find_vertices(search, parameterisation)
    blind = (search.target.pre_activation <= 0).nonzero()[:, 0].tolist()
    expected = [
        sum(abs(float(z[unit])) for unit in blind if unit != blind[number])
        for number, z in enumerate(rows)
    ]
    assert progress.history[0]["inactive"] == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("penalty", ["hinge", "absolute"])
def test_a_target_without_blind_units_is_matched_all_the_same(small_network, penalty):
    search = search_for(small_network, objective={"penalty": penalty, "diversity": 0}, steps=20)
    everywhere = search.target.pre_activation.abs() + 0.1
    search = VertexSearch(
        network=small_network,
        target=TargetFeatures.of(everywhere, small_network.blind),
        target_class=0,
        target_probability=1.0,
        target_margin=0.5,
        units=torch.empty(0, dtype=torch.int64),
        objective=search.objective,
        optimiser=search.optimiser,
        seed=0,
    )
    _, progress = find_vertices(search, parameterise("pixels"))
    assert progress.history[0]["unit"] == progress.history[0]["inactive"] == 0
    assert progress.history[-1]["active"] < progress.history[0]["active"]


def test_adam_takes_steps_of_the_scheduled_size(small_network):
    search = search_for(small_network, steps=1, learning_rate=0.4, warmup_steps=4)
    parameterisation = parameterise("pixels")
    before = parameterisation.images().detach().clone()
    after, _ = find_vertices(search, parameterisation)
    # Adam's first step is the step size itself, whatever the gradient: a hundredth of the range
    # of pixels, times a learning rate of 0.4, of which warm-up leaves a quarter.
    assert (after - before).abs().max().item() == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", ["hinge", "absolute"])
@pytest.mark.parametrize("fits", [1, 2, 4, 7])
def test_where_memory_runs_out_smaller_batches_give_the_same_gradient(
    small_network, kind, penalty, fits, monkeypatch, caplog
):
    objective = {"penalty": penalty, "hull_samples": 4, "diversity": 0.5}
    search = search_for(small_network, objective=objective)
    whole, parts = parameterise(kind), parameterise(kind)
    expected = StepLoss(search).backward(whole, search.objective, seeded(1))
    run = small_network.pre_activation

    def limited(images):
        if len(images) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(images)

    monkeypatch.setattr(small_network, "pre_activation", limited)
    losses = StepLoss(search)
    row = losses.backward(parts, search.objective, seeded(1))
    assert row == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(parts.parameter.grad, whole.parameter.grad, rtol=1e-4, atol=1e-6)
    assert ("memory ran out" in caplog.text) == (fits < 7)
    caplog.clear()
    losses.backward(parts, search.objective, seeded(1))
    assert not caplog.text  # it remembers what fits


def test_a_device_without_memory_for_one_image_ends_the_search(small_network, monkeypatch):
    def none_fits(images):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(small_network, "pre_activation", none_fits)
    with pytest.raises(OutOfMemoryError, match=r"one image through small .* --device cpu"):
        find_vertices(search_for(small_network), parameterise("pixels"))


@pytest.mark.parametrize(
    ("share", "distance", "factor"),
    [
        (1.0, 50.0, 1.5),  # sure, but near: distance counts for more
        (0.5, 150.0, 1 / 1.5),  # far, but not sure
        (0.5, 50.0, 1.0),
        (1.0, 150.0, 1.0),
    ],
)
def test_the_weight_of_distance_follows_what_is_missing(small_network, share, distance, factor):
    search = search_for(small_network, stop_distance=100.0, stop_probability=0.9)
    row = {
        "validation_success": 1.0,
        "validation_probability": share * search.target_probability,
        "validation_margin": search.target_margin,
        "validation_gap": 0.3,
        "validation_distance": distance,
    }
    assert next_diversity(2.0, row, search) == pytest.approx(2 * factor)


@pytest.mark.parametrize(("gap", "expected"), [(0.1, True), (0.2, True), (0.21, False)])
def test_a_hull_whose_features_are_off_is_not_sure(small_network, gap, expected):
    search = search_for(small_network, stop_gap=0.2)
    row = {"validation_success": 1.0, "validation_probability": 1.0, "validation_gap": gap}
    assert sure_enough(row | {"validation_margin": 1.0}, search) is expected


def test_the_weight_of_distance_is_kept_with_the_state(small_network):
    search = search_for(
        small_network, learning_rate=1e-30, stop_probability=0.5, objective={"diversity": 2.0}
    )
    still = FreePixels(picture(2), num_vertices=2, output_size=32, noise=0.0, generator=seeded(0))
    _, progress = find_vertices(search, still)
    checked = [row["diversity"] for row in progress.history if "diversity" in row]
    assert checked == [2.0, 3.0]
    assert progress.diversity == pytest.approx(4.5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_authors_search_goes_on_bit_for_bit_too(small_network, kind, tmp_path):
    search = search_for(
        small_network, method="authors", learning_rate=1e-4, objective={"penalty": "absolute"}
    )
    expected, _ = find_vertices(search, parameterise(kind))
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    hook = at_step(small_network, 4, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(InterruptedWorkError, match="Stopped after 4 of 6 steps"):
        find_vertices(search, parameterise(kind), checkpoint)
    hook.remove()
    vertices, _ = find_vertices(search, parameterise(kind, seed=99), checkpoint)
    assert torch.equal(vertices, expected)


def test_the_search_is_decided_by_its_seed(small_network):
    def loss(seed):
        search = search_for(small_network, seed=seed)
        return find_vertices(search, parameterise("patches"))[1].history[-1]["loss"]

    assert loss(5) == loss(5)
    assert loss(5) != loss(6)


def test_the_search_stops_as_soon_as_the_validation_batch_collides(small_network):
    search = search_for(
        small_network,
        steps=200,
        check_every=7,
        learning_rate=2.0,
        stop_probability=0.25,
        stop_distance=0.0,
        objective={"active": 100.0, "diversity": 0.0},
    )
    _, progress = find_vertices(search, parameterise("pixels"))
    assert progress.stopped_because == "the validation batch collides"
    assert progress.step < 200
    assert progress.step % 7 == 0
    assert progress.history[-1]["validation_success"] == 1
    assert progress.history[-1]["validation_probability"] >= 0.25
    assert len(progress.history) == progress.step


@pytest.mark.parametrize("obstacle", ["none", "success", "probability", "margin", "distance"])
def test_each_part_of_the_stop_rule_can_hold_the_search_up(small_network, obstacle):
    # Vertices that are the target itself: nothing moves, and everything but the obstacle is met.
    with torch.no_grad():
        probabilities = small_network.probabilities(batch_of(picture(2)))[0]
    order = probabilities.argsort(descending=True).tolist()
    rule = {"stop_success": 1.0, "stop_probability": 1e-6, "stop_distance": 0.0}
    changes = {
        "none": {},
        "success": {"target_class": order[1]},
        "probability": {"stop_probability": 0.999},
        "distance": {"stop_distance": 1.0},
        "margin": {"stop_margin": 1.0},
    }
    search = search_for(small_network, learning_rate=1e-30, **(rule | changes[obstacle]))
    if obstacle == "probability":
        search = replace(search, target_probability=1.0)
    if obstacle == "margin":
        search = replace(search, target_margin=search.target_margin + 0.01)
    still = FreePixels(picture(2), num_vertices=2, output_size=32, noise=0.0, generator=seeded(0))
    _, progress = find_vertices(search, still)
    assert progress.step == (3 if obstacle == "none" else 6)
    assert ("validation" in progress.stopped_because) == (obstacle == "none")


def test_every_check_measures_the_same_8_bit_samples_and_every_step_new_ones(small_network):
    seen = batches_seen(small_network)
    search = search_for(small_network, learning_rate=1e-30)
    find_vertices(search, parameterise("pixels", num_vertices=2))
    steps = [batch for batch in seen if len(batch) == 7]  # 2 vertices, 5 hull samples
    checks = [batch for batch in seen[1:] if len(batch) != 7]  # 20 samples, 1 edge
    assert [len(batch) for batch in checks] == [8, 8, 5, 8, 8, 5]
    assert torch.equal(checks[0], checks[3])
    assert torch.equal(checks[2], checks[5])
    for batch in checks:
        levels = 255 * batch
        assert (levels - levels.round()).abs().max() < 1e-3
    assert len(steps) == 6
    assert torch.equal(steps[0][:2], steps[5][:2])
    hulls = [batch[2:].numpy().tobytes() for batch in steps]
    assert len(set(hulls)) == 6
    assert (255 * steps[0] - (255 * steps[0]).round()).abs().max() > 0.1


@pytest.mark.parametrize("num_vertices", [1, 2, 3])
@pytest.mark.parametrize("num_samples", [1, 16, 33])
def test_validation_matches_a_loop_over_samples(small_network, num_vertices, num_samples):
    search = search_for(small_network, validation_samples=num_samples)
    parameterisation = parameterise("patches", num_vertices=num_vertices)
    measured = validate(search, parameterisation.images().detach())
    vertices = round_to_8_bits(parameterisation.images().detach())
    hits, total, margins, gaps = 0, 0.0, [], []
    wanted = search.target.pre_activation[search.target.active]
    random = uniform_weights(num_samples, num_vertices, seeded(5, 2))
    every = [*random, *edge_middles(num_vertices, num_samples)]
    for number, weights in enumerate(every):
        sample = sum(
            weight.float() * vertex for weight, vertex in zip(weights, vertices, strict=True)
        )
        with torch.no_grad():
            output = small_network(round_to_8_bits(sample)[None])
        chances = output.probabilities[0]
        gap = (output.pre_activation[0, search.target.active] - wanted).abs().mean()
        gaps.append(float(gap / wanted.mean()))
        hits += int(chances.argmax() == search.target_class)
        total += chances[search.target_class].item() if number < num_samples else 0.0
        others = [chance for index, chance in enumerate(chances) if index != search.target_class]
        margins.append(float(chances[search.target_class] - max(others)))
    assert measured["validation_success"] == pytest.approx(hits / len(every))
    assert measured["validation_margin"] == pytest.approx(min(margins), abs=1e-5)
    assert measured["validation_gap"] == pytest.approx(max(gaps), rel=1e-4)
    assert measured["validation_probability"] == pytest.approx(total / num_samples, abs=1e-5)
    pairs = [
        255 * (vertices[a] - vertices[b]).norm().item()
        for a in range(num_vertices)
        for b in range(a + 1, num_vertices)
    ]
    expected = np.mean(pairs) if pairs else 0.0
    assert measured["validation_distance"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "number"), [("pixels", signal.SIGTERM), ("patches", signal.SIGINT)]
)
@pytest.mark.parametrize("stopped_at", [1, 3, 6])
def test_an_interrupted_search_goes_on_bit_for_bit(
    small_network, kind, number, stopped_at, tmp_path
):
    search = search_for(small_network, checkpoint_every=2)
    expected, uninterrupted = find_vertices(search, parameterise(kind))
    checkpoint = Checkpoint(tmp_path / "run" / "checkpoint.h5", "a")
    hook = at_step(small_network, stopped_at, lambda: signal.raise_signal(number))
    with pytest.raises(InterruptedWorkError, match=f"Stopped after {stopped_at} of 6 steps"):
        find_vertices(search, parameterise(kind), checkpoint)
    hook.remove()
    # Another start, to show that all comes from the file.
    vertices, progress = find_vertices(search, parameterise(kind, seed=99), checkpoint)
    assert torch.equal(vertices, expected)
    assert without_seconds(progress.history) == without_seconds(uninterrupted.history)
    assert progress.stopped_because == uninterrupted.stopped_because


def test_a_search_killed_between_checkpoints_repeats_only_what_was_lost(small_network, tmp_path):
    search = search_for(small_network, checkpoint_every=2, validation_samples=4)
    expected, uninterrupted = find_vertices(search, parameterise("patches"))
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")

    def power_cut():
        raise OSError("power cut")

    hook = at_step(small_network, 6, power_cut)
    with pytest.raises(OSError, match="power cut"):
        find_vertices(search, parameterise("patches"), checkpoint)
    hook.remove()
    seen = batches_seen(small_network)
    vertices, progress = find_vertices(search, parameterise("patches"), checkpoint)
    assert torch.equal(vertices, expected)
    assert without_seconds(progress.history) == without_seconds(uninterrupted.history)
    assert len([batch for batch in seen if len(batch) == 8]) == 2


def test_an_interruption_says_how_to_go_on(small_network, tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    at_step(small_network, 2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(
        InterruptedWorkError,
        match=r"the state is in .*checkpoint\.h5\. Run the same command again to go on",
    ):
        find_vertices(search_for(small_network), parameterise("pixels"), checkpoint)
    assert checkpoint.path.is_file()


def test_an_interruption_without_a_checkpoint_says_that_nothing_was_kept(small_network):
    search = search_for(small_network)
    at_step(small_network, 3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(InterruptedWorkError, match="Stopped after 3 of 6 steps; nothing was kept"):
        find_vertices(search, parameterise("pixels"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_search_that_is_over_when_it_is_to_stop_gives_its_vertices_back(small_network, number):
    search = search_for(small_network)
    expected, _ = find_vertices(search, parameterise("pixels"))
    at_step(small_network, 6, lambda: signal.raise_signal(number))
    with stop_requests() as around:
        vertices, progress = find_vertices(search, parameterise("pixels"))
        assert around.requested
    assert torch.equal(vertices, expected)
    assert progress.stopped_because == "all steps were done"


def test_work_that_stopped_does_not_ask_the_work_around_twice(small_network):
    at_step(small_network, 3, lambda: signal.raise_signal(signal.SIGINT))
    with stop_requests() as around:
        with pytest.raises(InterruptedWorkError, match="Stopped after 3 of 6 steps"):
            find_vertices(search_for(small_network), parameterise("pixels"))
        assert around.requested
        # The first is not taken for the second, which would raise at once.
        around.requested = False
        signal.raise_signal(signal.SIGINT)
        assert around.requested


def test_the_end_of_a_search_is_kept_until_its_vertices_are_written(small_network, tmp_path):
    search = search_for(small_network, checkpoint_every=4)
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    expected, _ = find_vertices(search, parameterise("patches"), checkpoint)
    seen = batches_seen(small_network)
    vertices, progress = find_vertices(search, parameterise("patches", seed=99), checkpoint)
    assert torch.equal(vertices, expected)
    assert progress.step == 6
    assert not seen


def test_a_termination_ends_a_block_like_ctrl_c():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match=r"^$"), termination_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_request_stops_at_once_and_keeps_nothing(small_network, tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    search = search_for(small_network)
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    at_step(small_network, 1, twice)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        find_vertices(search, parameterise("pixels"), checkpoint)
    assert not checkpoint.path.exists()


@pytest.mark.parametrize("ending", ["done", "stopped", "failed"])
def test_signal_handlers_are_as_before_when_the_search_has_ended(small_network, ending):
    def handlers():
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    before, during = handlers(), []
    search = search_for(small_network, objective={"active": 1e38 if ending == "failed" else 1.0})
    at_step(small_network, 1, lambda: during.extend(handlers()))
    if ending == "stopped":
        at_step(small_network, 1, lambda: signal.raise_signal(signal.SIGTERM))
    if ending == "done":
        find_vertices(search, parameterise("pixels"))
    else:
        with pytest.raises((InterruptedWorkError, DivergedError), match=r"Stopped after 1|loss is"):
            find_vertices(search, parameterise("pixels"))
    assert len(during) == 2
    assert not set(during) & set(before)
    assert handlers() == before


def test_a_stop_request_is_unset_until_a_signal_comes():
    with stop_requests() as request:
        assert not request.requested
        signal.raise_signal(signal.SIGTERM)
        assert request.requested


def test_outside_the_main_thread_the_search_runs_and_catches_no_signals(small_network):
    before = signal.getsignal(signal.SIGINT)
    found, during = [], []
    search = search_for(small_network)
    at_step(small_network, 1, lambda: during.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(
        target=lambda: found.append(find_vertices(search, parameterise("pixels")))
    )
    thread.start()
    thread.join()
    assert found[0][1].step == 6
    assert during == [before]


@pytest.mark.parametrize("stopped_at", [4])
def test_a_checkpoint_of_another_run_is_refused_and_left_alone(small_network, stopped_at, tmp_path):
    search = search_for(small_network, checkpoint_every=2)
    path = tmp_path / "checkpoint.h5"
    find_vertices(search, parameterise("pixels"), Checkpoint(path, "a"))
    content = path.read_bytes()
    with pytest.raises(RunError, match=r"state of another run\. Remove .* or choose another --out"):
        find_vertices(search, parameterise("pixels"), Checkpoint(path, "b"))
    assert path.read_bytes() == content


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path):
    path.write_bytes(b"not a checkpoint")


def change(name, value):
    def edit(path):
        with h5py.File(path, "r+") as file:
            del file[name]
            if value is not None:
                file[name] = value

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "not a readable HDF5 file"),
        (overwrite, "not a readable HDF5 file"),
        (change("exp_avg", None), "has no dataset 'exp_avg'"),
        (change("parameter", np.zeros((2, 2), np.float32)), "'parameter' should have shape"),
        (change("generator", np.zeros(3, np.uint8)), "is damaged .* Remove it"),
        (change("state", ["{"]), "is damaged .* Remove it"),
        (change("state", np.zeros(0, h5py.string_dtype())), "is damaged .* Remove it"),
    ],
)
def test_a_damaged_checkpoint_is_refused(small_network, damage, message, tmp_path):
    search = search_for(small_network, checkpoint_every=2)
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    find_vertices(search, parameterise("pixels"), checkpoint)
    damage(checkpoint.path)
    with pytest.raises(RunError, match=message):
        find_vertices(search, parameterise("pixels"), checkpoint)


def test_a_checkpoint_of_a_later_version_is_refused(small_network, tmp_path):
    path = tmp_path / "checkpoint.h5"
    write_hdf5(path, encoding=ENCODING, version=VERSION + "0", datasets={}, attributes={})
    with pytest.raises(RunError, match=f"should be '{ENCODING}' version {VERSION}"):
        find_vertices(search_for(small_network), parameterise("pixels"), Checkpoint(path, "a"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_infinite_loss_ends_the_search_naming_step_and_learning_rate(small_network, kind):
    search = search_for(small_network, learning_rate=0.125, objective={"active": 1e38})
    with pytest.raises(
        DivergedError, match=r"loss is inf at step 0\. Set optimiser\.learning_rate below 0\.125"
    ):
        find_vertices(search, parameterise(kind))


def test_a_loss_that_is_not_a_number_ends_the_search(small_network):
    search = search_for(small_network)
    with torch.no_grad():
        small_network.module.conv.weight.fill_(math.inf)
    with pytest.raises(DivergedError, match="loss is nan at step 0"):
        find_vertices(search, parameterise("pixels"))


@pytest.mark.parametrize("broken_at", [2, 6])
def test_a_later_divergence_names_its_step_and_keeps_no_broken_state(
    small_network, broken_at, tmp_path
):
    def break_weights():
        with torch.no_grad():
            small_network.module.conv.bias.fill_(math.inf)

    search = search_for(small_network, checkpoint_every=1)
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    at_step(small_network, broken_at, break_weights)
    with pytest.raises(DivergedError, match=f"at step {broken_at - 1}"):
        find_vertices(search, parameterise("pixels"), checkpoint)
    with h5py.File(checkpoint.path) as file:
        assert np.isfinite(file["parameter"]).all()


class Root(nn.Module):
    """Finite everywhere on [0, 1], but infinitely steep at 0."""

    def forward(self, images):
        return images.sqrt()


def test_an_infinite_gradient_of_a_finite_loss_ends_the_search_even_after_the_last_step():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(Root(), nn.Flatten(), nn.Linear(48, 9), nn.ReLU(), nn.Linear(9, 2))
    network = CollisionNetwork(
        module, name="root", layer="3", input_size=4, mean=(0.0,) * 3, scale=(1.0,) * 3
    )
    black = np.zeros((4, 4, 3), np.uint8)
    pixels = FreePixels(black, num_vertices=2, output_size=4, noise=0.0, generator=seeded(0))
    target = network(torch.full((1, 3, 4, 4), 0.5)).pre_activation[0]
    search = VertexSearch(
        network=network,
        target=TargetFeatures.of(target, network.blind),
        target_class=0,
        target_probability=1.0,
        target_margin=0.5,
        units=torch.tensor([0, 1]),
        objective=Objective(),
        optimiser=Optimiser(steps=1, learning_rate=0.5),
        seed=0,
    )
    with pytest.raises(
        DivergedError, match=r"not finite after step 0\. .*learning_rate below 0\.5"
    ):
        find_vertices(search, pixels)
