"""Methods to compare with: what each of them is for, and where it does not apply."""

import copy
import csv
import importlib
import json

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.config_files import load_config
from patchcollide.errors import ConfigError, MissingLibraryError, NetworkError, TargetError
from patchcollide.evaluation.gaps import measure_boundary
from patchcollide.images.pictures import write_png
from patchcollide.io.provenance import fingerprint
from patchcollide.networks import feature_files
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target, TargetFeatures
from patchcollide.optimisation.methods import adversarial, plenoptic_metamer
from patchcollide.optimisation.methods.matching import MatchObjective
from patchcollide.optimisation.methods.null_space import NullSpace, nearest_in_range
from patchcollide.optimisation.methods.problem import Problem, begin
from patchcollide.optimisation.methods.registry import method_of, require_applicable
from patchcollide.optimisation.vertices import make_parameterisation, make_task
from patchcollide.polyhedra.affine_subspaces import Subspace
from patchcollide.runs import collide, networks
from tests.conftest import SMALL
from tests.helpers.descents import task_for

SIDE = 6


def picture(seed, side=32, channels=3):
    return np.random.default_rng(seed).integers(1, 255, (side, side, channels), dtype=np.uint8)


def grey_network(*layers, layer="act"):
    module = nn.Sequential()
    for name, part in layers:
        module.add_module(name, part)
    return CollisionNetwork(
        module, name="grey", layer=layer, input_size=SIDE, mean=(0.0,), scale=(1.0,)
    )


def affine_network(units):
    """A linear layer on 36 pixels."""
    return grey_network(
        ("flatten", nn.Flatten()),
        ("linear", nn.Linear(SIDE**2, units)),
        ("act", nn.ReLU()),
        ("head", nn.Linear(units, 4)),
    )


def solve(network, method, *overrides, source=None, target=None):
    """Returns the settings, what was to be solved, the images and the state of a method."""
    config = load_config(overrides=[*SMALL, f"method={method}", *overrides])
    shape = (network.input_size, network.channels)
    source = picture(1, *shape) if source is None else source
    target = target or Target.of_picture(network, picture(2, *shape))
    task = make_task(config, network, target)
    begun, start = begin(config, source, target)
    parameterisation = make_parameterisation(begun, network, start, None)
    problem = Problem(config, network, target, task, parameterisation)
    images, state = method_of(config)(problem)
    return problem, images, state


def test_the_default_method_has_the_fingerprint_it_had_when_there_were_no_others():
    # Nor was there a bound on features, a tint or a folded network.
    then = ["network.folded=false", "objective.tightness=0", "composition.tint=0"]
    settings = load_config(overrides=then).model_dump(mode="json")
    before = {name: part for name, part in settings.items() if name not in ("method", "baselines")}
    del before["network"]["folded"]
    for name in ("tightness", "source_distance", "coarseness", "proved"):
        del before["objective"][name]
    del before["composition"]["tint"]
    assert fingerprint(load_config(overrides=then).identity()) == fingerprint(before)
    assert load_config(overrides=[*then, "baselines.radius=1"]).identity() == before
    others = [
        load_config(overrides=[*then, f"method={name}", *more]).identity()
        for name, *more in (["features"], ["metamer"], ["metamer", "baselines.start=source"])
    ]
    assert len({fingerprint(value) for value in [*others, before]}) == 4
    # Nor was there a traversal.
    assert set(others[0]["baselines"]) == {"start", "match", "radius", "attack_steps"}


class TestFeatures:
    def test_pixels_that_feed_units_inactive_at_both_stay(self):
        # Each unit sees one pixel, so what a unit does not ask for, its pixel does not do.
        network = grey_network(
            ("flatten", nn.Flatten()),
            ("linear", nn.Linear(SIDE**2, SIDE**2)),
            ("act", nn.ReLU(inplace=True)),
            ("head", nn.Linear(SIDE**2, 4)),
        )
        linear = network.module.get_submodule("linear")
        with torch.no_grad():
            linear.weight.copy_(torch.eye(SIDE**2))
            linear.bias.fill_(-0.5)
        problem, images, _ = solve(
            network, "features", "optimiser.start_noise=0", "optimiser.steps=300"
        )
        start = torch.from_numpy(picture(1, SIDE, 1)).reshape(1, -1) / 255
        goal = (problem.target.pre_activation[None] + 0.5).expand(len(images), -1)
        blind = (start < 0.5).expand_as(goal)
        found = images.detach().flatten(1)
        assert 0 < blind[0].sum() < SIDE**2
        assert torch.equal(found[blind], start.expand_as(found)[blind])
        active = ~blind & (goal > 0.5)
        # Adam may carry a unit that must be met past where it responds: there it stays, dead.
        met = (found - goal).abs() < 1e-3
        assert (met | (found <= 0.5))[active].all()
        assert met[active].double().mean() > 0.8
        # What responded and must not comes to rest where it ceases to: on the boundary.
        responded = ~blind & (goal < 0.5)
        assert responded.any()
        assert (found[responded] <= 0.5 + 1e-3).all()
        # No deeper than ten steps of a hundredth, which is what Adam's momentum carries.
        assert (found[responded] >= 0.5 - 0.1).all()

    def test_the_loss_is_that_of_activations(self, small_network):
        from patchcollide.optimisation.methods.matching import activations_of

        images = torch.rand(3, 3, 32, 32)
        goal = small_network(torch.rand(1, 3, 32, 32)).pre_activation[0].relu()
        objective = MatchObjective(task_for(small_network), activations_of(small_network), goal)
        found = objective.values(images)
        for image, value in zip(images, found, strict=True):
            z = small_network(image[None]).pre_activation[0]
            expected = sum((max(float(a), 0) - float(b)) ** 2 for a, b in zip(z, goal, strict=True))
            assert float(value) == pytest.approx(expected / 2, rel=1e-4)

    def test_from_the_target_nothing_moves(self, small_network):
        _, images, _ = solve(
            small_network, "features", "baselines.start=target", "optimiser.start_noise=0"
        )
        expected = torch.from_numpy(picture(2)).permute(2, 0, 1) / 255
        assert torch.allclose(images, expected.expand_as(images), atol=1e-6)

    def test_all_steps_are_done(self, small_network):
        easy = ["optimiser.stop_probability=0.01", "optimiser.stop_success=0.01"]
        easy += ["optimiser.stop_distance=0", "optimiser.stop_margin=0", "optimiser.check_every=1"]
        easy += ["objective.tightness=0"]
        target = Target.of_picture(small_network, picture(1))
        _, _, state = solve(small_network, "features", *easy, target=target)
        _, _, ours = solve(small_network, "polytope", *easy, target=target)
        assert state.step == 6
        assert state.stopped_because == "all steps were done"
        assert ours.step < 6


class TestMetamers:
    def test_noise_comes_to_give_the_layer_what_the_target_gives_it(self):
        network = affine_network(12)
        problem, images, _ = solve(network, "metamer", "optimiser.steps=400")
        goal = problem.target.pre_activation
        spread = (network(torch.rand(20, 1, SIDE, SIDE)).pre_activation - goal).abs().mean()
        assert (network(images).pre_activation - goal).abs().max() < 0.02 * spread
        assert torch.cdist(images.flatten(1), images.flatten(1)).fill_diagonal_(9).min() > 0.1

    def test_seeds_give_other_solutions(self):
        network = affine_network(4)
        first, again, other = (
            solve(network, "metamer", f"seed={seed}")[1].detach() for seed in (0, 0, 1)
        )
        assert torch.equal(first, again)
        assert (first - other).abs().mean() > 0.05

    def test_activations_are_matched_where_asked_for(self, small_network):
        common = ["baselines.start=source", "optimiser.start_noise=0"]
        _, matched, _ = solve(small_network, "metamer", "baselines.match=activation", *common)
        _, expected, _ = solve(small_network, "features", *common)
        _, other, _ = solve(small_network, "metamer", *common)
        assert torch.equal(matched, expected)
        assert not torch.equal(matched, other)


class TestNullSpace:
    @pytest.mark.parametrize("units", [1, 2, 11, 35])
    def test_no_unit_changes_where_the_layer_is_affine_in_the_image(self, units):
        network = affine_network(units)
        problem, images, state = solve(network, "null_space", "baselines.start=noise")
        z = network.in_float64()(images.double()).pre_activation
        assert (z - problem.target.pre_activation).abs().max() < 1e-6
        assert images.min() >= 0
        assert images.max() <= 1
        assert state.step == len(images)

    def test_images_go_towards_the_source(self):
        network = affine_network(4)
        _, images, _ = solve(network, "null_space")
        source, target = (torch.from_numpy(picture(s, SIDE, 1)) / 255 for s in (1, 2))
        before = (source - target).norm()
        assert (images[0] - source.permute(2, 0, 1)).norm() < 0.6 * before

    def test_convolutions_read_what_they_read(self, small_network):
        problem, images, _ = solve(small_network, "null_space")
        z = small_network.in_float64()(images.double()).pre_activation
        assert (z - problem.target.pre_activation).abs().max() < 1e-5
        source = torch.from_numpy(picture(1)).permute(2, 0, 1) / 255
        target = torch.from_numpy(picture(2)).permute(2, 0, 1) / 255
        assert (images[0] - source).norm() < 0.8 * (target - source).norm()

    @pytest.mark.parametrize("seed", range(4))
    def test_the_nearest_point_is_that_of_alternating_projections(self, seed):
        rng = np.random.default_rng(seed)
        rows, target, point = rng.standard_normal((3, 7)), rng.random(9), 3 * rng.standard_normal(9)
        space = NullSpace(target, [(np.arange(1, 8), Subspace.of(rows, target[1:8]))])
        found, missed = nearest_in_range(space, point)
        assert missed < 1e-9
        seen = np.zeros((9, 9))
        seen[1:8, 1:8] = np.linalg.pinv(rows) @ rows
        np.testing.assert_allclose(space.nearest(point), point - seen @ (point - target))
        moved, correction = point, np.zeros(9)
        for _ in range(20_000):  # Dykstra's algorithm, which is slow.
            flat = moved - seen @ (moved - target)
            moved = np.clip(flat + correction, 0, 1)
            correction = flat + correction - moved
        np.testing.assert_allclose(found, moved, atol=1e-6)

    @pytest.mark.parametrize("units", [36, 50])
    def test_weights_that_see_everything_are_refused(self, units):
        message = f"no null space: {units} units read 36 values.* full column rank.*fewer units"
        with pytest.raises(NetworkError, match=message):
            solve(affine_network(units), "null_space")

    def test_further_up_the_goal_is_approached(self):
        network = grey_network(
            ("flatten", nn.Flatten()),
            ("first", nn.Linear(SIDE**2, 20)),
            ("below", nn.ReLU()),
            ("second", nn.Linear(20, 6)),
            ("act", nn.ReLU()),
            ("head", nn.Linear(6, 4)),
        )
        problem, images, state = solve(network, "null_space", "optimiser.steps=300")
        assert state.history[-1]["loss"] < 0.75 * state.history[0]["loss"]
        start = torch.from_numpy(picture(1, SIDE, 1)).permute(2, 0, 1)[None] / 255

        def gap(image):
            return (network(image).pre_activation - problem.target.pre_activation).norm()

        assert gap(images[:1]) < 0.9 * gap(start)

    def test_features_alone_have_no_image_to_move(self, small_network):
        z = torch.randn(small_network.units)
        target = Target.of_features(small_network, z)
        with pytest.raises(TargetError, match="only its features were given"):
            solve(small_network, "null_space", target=target)

    def test_a_layer_that_follows_no_linear_module_is_refused(self):
        network = grey_network(
            ("act", nn.ReLU()), ("flatten", nn.Flatten()), ("head", nn.Linear(36, 4))
        )
        with pytest.raises(NetworkError, match=r"no nn\.Linear or nn\.Conv2d runs before it"):
            solve(network, "null_space")


class TestAdversarial:
    def test_images_reach_the_class_close_to_the_source(self, small_network):
        pytest.importorskip("foolbox", exc_type=ImportError)
        problem, images, state = solve(
            small_network, "adversarial", "baselines.radius=40", "baselines.attack_steps=30"
        )
        start = problem.parameterisation.images()
        wanted = problem.target.class_index
        assert (small_network(start).logits.argmax(dim=1) != wanted).all()
        assert (small_network(images).logits.argmax(dim=1) == wanted).all()
        assert (images - start).abs().max() <= 40 / 255 + 1e-6
        assert "100% of the images reached" in state.stopped_because

    def test_seeds_decide_it_and_the_caller_s_generator_is_left_alone(self, small_network):
        pytest.importorskip("foolbox", exc_type=ImportError)
        before = torch.get_rng_state()
        first, again, other = (
            solve(small_network, "adversarial", "optimiser.start_noise=0", f"seed={seed}")[1]
            for seed in (0, 0, 1)
        )
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_without_the_library_it_says_what_to_install(self, monkeypatch):
        def missing(name):
            raise ImportError(f"No module named '{name}'")

        monkeypatch.setattr(importlib, "import_module", missing)
        config = load_config(overrides=["method=adversarial"])
        with pytest.raises(MissingLibraryError, match=r"pip install 'patchcollide\[baselines\]'"):
            require_applicable(config, pixels=True)


class TestApplicability:
    @pytest.mark.parametrize("method", ["null_space", "adversarial", "level_set", "plenoptic"])
    def test_some_are_for_pixels_only(self, method, monkeypatch):
        monkeypatch.setattr(adversarial, "import_foolbox", lambda: None)
        monkeypatch.setattr(plenoptic_metamer, "import_plenoptic", lambda: None)
        config = load_config(overrides=[f"method={method}"])
        require_applicable(config, pixels=True)
        with pytest.raises(ConfigError, match=f"'{method}'.*does not apply to compositions"):
            require_applicable(config, pixels=False)

    def test_compositions_have_a_start_of_their_own(self):
        require_applicable(load_config(overrides=["method=metamer"]), pixels=False)
        config = load_config(overrides=["method=metamer", "baselines.start=noise"])
        with pytest.raises(ConfigError, match=r"baselines\.start = 'noise' is for free pixels"):
            require_applicable(config, pixels=False)

    def test_an_unknown_start_image_is_refused(self, small_network):
        target = Target.of_features(small_network, torch.randn(small_network.units))
        config = load_config(overrides=["method=features", "baselines.start=target"])
        with pytest.raises(TargetError, match="needs the target's image"):
            begin(config, picture(1), target)


class TestBoundary:
    def test_figures_are_those_of_counting(self, small_network):
        z = small_network(torch.rand(4, 3, 32, 32)).pre_activation.detach()
        target = TargetFeatures.of(z[0], small_network.blind)
        level = float(z[0][z[0] > 0].mean())
        for row, found in zip(z, measure_boundary(z, target), strict=True):
            slacks = sorted(-float(v) for v, t in zip(row, z[0], strict=True) if t <= 0)
            active = [float(v) for v, t in zip(row, z[0], strict=True) if t > 0]
            near = sum(abs(slack) <= 0.01 * level for slack in slacks) / len(slacks)
            assert found["slack_min"] == pytest.approx(slacks[0], rel=1e-5)
            assert found["slack_median"] == pytest.approx(slacks[(len(slacks) - 1) // 2], rel=1e-5)
            assert found["on_boundary_share"] == pytest.approx(near)
            assert found["dead_share"] == sum(v <= 0 for v in active) / len(active)

    @pytest.mark.parametrize("value", [-1.0, 1.0])
    def test_of_no_units_figures_are_zero(self, value, small_network):
        z = torch.full((1, 3), value)
        found = measure_boundary(z, TargetFeatures.of(z[0], copy.copy(small_network.blind)))[0]
        assert found["dead_share"] == found["on_boundary_share"] == 0
        assert found["slack_min"] == (1 if value < 0 else 0)


@pytest.fixture
def command(tmp_path, small_network, monkeypatch):
    """Runs collide on two pictures, as people do."""
    for stage in (collide, networks, feature_files):
        monkeypatch.setattr(stage, "load_network", lambda *_: small_network)
    for seed, name in enumerate(("source.png", "target.png")):
        write_png(tmp_path / name, picture(seed))

    def run(*words):
        pair = ["--source", tmp_path / "source.png", "--target", tmp_path / "target.png"]
        settings = [word for override in SMALL for word in ("--set", override)]
        asked = ["collide", *settings, *pair, "--out", tmp_path / "run", *words]
        return CliRunner().invoke(app, list(map(str, asked)))

    return run


@pytest.mark.parametrize(
    "method", ["features", "metamer", "null_space", "adversarial", "level_set"]
)
def test_every_method_leaves_a_finished_run(method, command, tmp_path):
    if library := {"adversarial": "foolbox", "plenoptic": "plenoptic"}.get(method):
        pytest.importorskip(library, exc_type=ImportError)
    outcome = command("--pixels", "--method", method)
    assert outcome.exit_code == 0, outcome.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["method"] == method
    assert len(summary["certificate"]["boundary"]["vertices"]) == 5
    assert {"vertices.h5", "vertex-4.png", "report.html"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    with (tmp_path / "run" / "history.csv").open() as file:
        assert list(csv.DictReader(file))
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert about["config"]["method"] == method
    assert f'method="{method}"' in about["inputs"]["command"]
    again = command("--pixels", "--method", method)
    assert "nothing to do" in again.stderr
    other = command("--pixels")
    assert other.exit_code == 2
    assert f'method: found "{method}", expected "polytope"' in " ".join(other.stderr.split())


def test_a_method_that_does_not_apply_ends_with_2_and_leaves_nothing(command, tmp_path):
    outcome = command("--neighbours", tmp_path / "none.h5", "--method", "null_space")
    assert outcome.exit_code == 2
    assert "does not apply to compositions" in " ".join(outcome.stderr.split())
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "run.partial").exists()
