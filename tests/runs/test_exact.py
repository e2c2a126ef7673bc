import copy
import json
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide import pipeline
from patchcollide.config_files import load_config
from patchcollide.errors import ImageError, NetworkError, ProgramError, TargetError, UnboundedError
from patchcollide.images.digits import read_digits, write_digits
from patchcollide.images.pictures import read_png, write_png
from patchcollide.networks.linear_regions.walk import walk_segment
from patchcollide.networks.network import CollisionNetwork
from patchcollide.networks.targets import Target
from patchcollide.optimisation import exact as solving
from patchcollide.optimisation.exact import (
    describe_vertices,
    find_exact_vertices,
    measure_extents,
    target_polytope,
)
from patchcollide.runs import collide
from patchcollide.runs.folder import open_run
from patchcollide.runs.vertices import load_vertices
from tests.helpers.presence import present

SIZE = 6


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(4)
        module = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                fc=nn.Linear(SIZE**2, 20),
                act=nn.ReLU(),
                fc2=nn.Linear(20, 8),
                act2=nn.ReLU(),
                out=nn.Linear(8, 4),
            )
        )
    return CollisionNetwork(
        module, name="small", layer="act", input_size=SIZE, mean=(0.0,), scale=(1.0,)
    )


@pytest.fixture
def target(network):
    picture = np.random.default_rng(3).integers(40, 215, (SIZE, SIZE, 1), dtype=np.uint8)
    return Target.of_picture(network, picture)


def settings(*overrides):
    return load_config(overrides=["optimiser.num_vertices=3", *overrides])


@pytest.mark.parametrize("kind", ["unit", "random", "far"])
def test_vertices_collide_exactly_and_are_vertices(network, target, kind):
    exact = target_polytope(settings(), network, target, None)
    vertices = find_exact_vertices(settings(f"exact.vertices={kind}"), exact)
    double = network.in_float64()
    active = exact.features.active.numpy()
    wanted = exact.features.pre_activation.numpy()
    for vertex in vertices:
        image = torch.from_numpy(vertex.image.reshape(1, 1, SIZE, SIZE))
        with torch.no_grad():
            z = double.pre_activation(image)[0].numpy()
        assert abs(z - wanted)[active].max() < 1e-9
        assert z[~active].max() < 1e-9
        assert -1e-12 <= vertex.image.min() <= vertex.image.max() <= 1 + 1e-12
    assert len({vertex.image.tobytes() for vertex in vertices}) == 3
    described = describe_vertices(exact, vertices)
    assert described["violation_max"] < 1e-9
    assert all(row["is_vertex"] for row in described["vertices"])
    assert [row["tight_constraints"] for row in described["vertices"]] == [SIZE**2] * 3
    assert described["active"] == active.sum()


def test_each_vertex_needs_a_unit_to_drive(network, target):
    exact = target_polytope(settings(), network, target, None)
    with pytest.raises(TargetError, match=r"objective\.units = 'none' names none\. Set exact"):
        find_exact_vertices(settings("objective.units=none"), exact)


@pytest.mark.parametrize("kind", ["setting", "polytope"])
def test_units_that_are_blind_from_above_are_driven_up(network, target, kind):
    module = copy.deepcopy(network.module)
    module.act = nn.ReLU6()
    module.fc.weight.data *= 40
    clipped = CollisionNetwork(
        module, name="clipped", layer="act", input_size=SIZE, mean=(0.0,), scale=(1.0,)
    )
    exact = target_polytope(settings(), clipped, target, None)
    above = np.flatnonzero(exact.features.above.numpy())[:3]
    assert len(above) == 3
    if kind == "setting":
        chosen = f"objective.units={above.tolist()}"
        found = find_exact_vertices(settings(chosen), exact)
    else:
        found = [*exact.polytope.unit_vertices(above)]
    for unit, vertex in zip(above, found, strict=True):
        z = exact.polytope.matrix[unit] @ vertex.image + exact.polytope.offset[unit]
        assert z > exact.features.pre_activation[unit] > 6


def test_far_vertices_are_farther_apart_than_those_of_units(network, target):
    exact = target_polytope(settings(), network, target, None)

    def spread(kind):
        vertices = find_exact_vertices(settings(f"exact.vertices={kind}"), exact)
        images = np.stack([vertex.image for vertex in vertices])
        return max(np.linalg.norm(a - b) for a in images for b in images)

    assert spread("far") > spread("unit")


def test_the_walk_and_the_polytope_agree_on_where_a_segment_leaves(network, target):
    exact = target_polytope(settings(), network, target, None)
    matrix = exact.polytope.matrix[exact.features.active.numpy()]
    kernel = np.linalg.svd(matrix)[2][len(matrix) :]
    rng = np.random.default_rng(0)
    double = network.in_float64()
    # Without bounds on pixels: a network goes on behind them.
    unbounded = target_polytope(settings("exact.space=anything"), network, target, None).polytope
    for _ in range(8):
        direction = kernel.T @ rng.normal(size=len(kernel))
        leave = unbounded.leaving(exact.image, direction)
        assert leave.constraint is not None
        assert leave.constraint.startswith("unit")
        far = exact.image + 3 * leave.distance * direction
        start, stop = (torch.from_numpy(x.reshape(1, SIZE, SIZE)) for x in (exact.image, far))
        label = target.class_index
        walk = walk_segment(double.module, start, stop, label, [0.0, 0.0], max_pieces=10_000)
        assert walk.is_complete
        first = min(piece.stop for piece in walk.pieces)
        assert 3 * first == pytest.approx(1, abs=1e-6)
        # Inside nothing at all changes, just outside something does.
        points = [exact.image + s * leave.distance * direction for s in (0.999, 1.001)]
        z = [np.maximum(unbounded.matrix @ x + unbounded.offset, 0) for x in points]
        wanted = np.maximum(exact.features.pre_activation.numpy(), 0)
        assert abs(z[0] - wanted).max() < 1e-9 < abs(z[1] - wanted).max()


def test_extents_enclose_every_vertex_found(network, target):
    exact = target_polytope(settings(), network, target, None)
    vertices = find_exact_vertices(settings("exact.vertices=random"), exact)
    found = measure_extents(settings("exact.width_pixels=36").exact, exact, seed=0)
    images = 255 * np.stack([vertex.image for vertex in vertices])
    widths = np.ptp(images, axis=0)
    pixel_widths, far_pair = present(found["pixel_widths"]), present(found["far_pair"])
    assert pixel_widths["num_pixels"] == SIZE**2
    assert pixel_widths["max"] >= widths.max() - 1e-6
    assert far_pair >= max(np.linalg.norm(a - b) for a in images for b in images) - 1e-6
    assert present(found["most_changed"]) <= far_pair + 1e-6
    assert found["dimension"] == SIZE**2 - exact.features.active.sum()
    assert 0 < present(found["ball_radius"]) <= 127.5


def test_a_layer_with_more_units_than_pixels_leaves_one_point_of_no_size(target):
    with torch.random.fork_rng():
        torch.manual_seed(4)
        module = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten())
    network = CollisionNetwork(
        module, name="wide", layer="1", input_size=SIZE, mean=(0.0,), scale=(1.0,)
    )
    exact = target_polytope(settings(), network, target, None)
    assert exact.features.active.sum() > SIZE**2
    found = measure_extents(settings().exact, exact, seed=0)
    assert (found["dimension"], found["ball_radius"]) == (0, 0)
    assert found["far_pair"] == pytest.approx(0, abs=1e-6)
    assert present(found["pixel_widths"])["max"] == pytest.approx(0, abs=1e-6)
    assert "not_measured" not in found


def test_what_has_no_end_is_said_beside_what_has_one(network, target):
    exact = target_polytope(settings("exact.space=anything"), network, target, None)
    found = measure_extents(settings().exact, exact, seed=0)
    assert found["dimension"] == SIZE**2 - exact.features.active.sum()
    for name in ("far_pair", "most_changed", "pixel_widths"):
        assert found[name] is None
    assert "There is no smallest value" in found["not_measured"]["far_pair"]
    json.dumps(found, allow_nan=False)


def test_the_dimension_is_that_of_the_space(network, target):
    # At a corner of the box, which is none of the whole space.
    black = Target.of_picture(network, np.zeros_like(target.picture))
    bounded, free = (
        measure_extents(
            settings("exact.width_pixels=1").exact,
            target_polytope(settings(f"exact.space={space}"), network, black, None),
            seed=0,
        )
        for space in ("range", "anything")
    )
    matched = target_polytope(settings(), network, black, None).features.active.sum()
    assert free["dimension"] == free["dimension_bound"] == SIZE**2 - matched
    assert present(bounded["dimension"]) <= present(free["dimension"])


def test_without_bounds_the_polytope_has_no_end(network, target):
    exact = target_polytope(settings("exact.space=anything"), network, target, None)
    with pytest.raises(UnboundedError):
        find_exact_vertices(settings("exact.vertices=random"), exact)


def test_a_target_without_its_image_is_refused(network, target):
    with pytest.raises(TargetError, match="given as features"):
        target_polytope(settings(), network, replace(target, picture=None), None)


@pytest.fixture
def digits(tmp_path):
    write_digits(tmp_path / "digits", read_digits(None, "test"), 40)
    return tmp_path / "digits"


SMALL = (
    "network.name=mlp",
    "network.weights=random",
    "network.min_confidence=0",
    "optimiser.num_vertices=2",
    "evaluation.batch_size=16",
    "evaluation.num_samples=20",
    "evaluation.check_samples=40",
    "evaluation.null_samples=40",
    "evaluation.dataset_pairs=10",
    "exact.extents=false",
)


def test_a_run_holds_what_other_runs_hold(digits, tmp_path):
    out, image = tmp_path / "run", sorted(digits.rglob("*.png"))[0]
    pipeline.find_exact(load_config(overrides=SMALL), image, out, images=digits)
    run = open_run(out)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["parameterisation"] == "pixels, exact"
    assert summary["success_rate"] == 1
    assert summary["exact"]["violation_max"] < 1e-9
    assert summary["dataset_distance_mean"] > 1000
    others = summary["certificate"]["others"]
    assert others["num_images"] + others["num_left_out"] == 32
    assert others["is_near"] == {"hull_mean": True, "hull_worst": True}
    assert summary["certificate"]["hull_unrounded"]["active_feature_gap_max"]["max"] < 1e-5
    vertices, _ = load_vertices(run)
    assert vertices.shape == (2, 28, 28, 1)
    np.testing.assert_array_equal(read_png(out / "vertex-0.png"), np.rint(vertices[0]))
    page = (out / "report.html").read_text()
    assert "found exactly, by linear" in page
    before = (out / "summary.json").stat().st_mtime_ns
    pipeline.find_exact(load_config(overrides=SMALL), image, out, images=digits)
    assert (out / "summary.json").stat().st_mtime_ns == before
    again = json.loads(pipeline.evaluate(out).read_text())
    assert again["exact"] == summary["exact"]
    assert again["dataset_distance_mean"] == summary["dataset_distance_mean"]
    assert again["success_rate"] == 1


EXTENTS = [setting for setting in SMALL if "extents" not in setting]


FAILURES = {
    "find_chebyshev_centre": ProgramError("The ball was too round."),
    "find_far_pair": np.linalg.LinAlgError("SVD did not converge"),
    "find_most_changed": OverflowError("too large"),
    "examine": TargetError("The target is elsewhere."),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_measure_that_fails_is_said_beside_the_others(network, target, monkeypatch, name):
    def fail(*_, **__):
        raise FAILURES[name]

    monkeypatch.setattr(solving, name, fail)
    exact = target_polytope(settings(), network, target, None)
    found = measure_extents(settings("exact.width_pixels=1").exact, exact, seed=0)
    assert list(found["not_measured"].values()) == [str(FAILURES[name])]
    assert sum(figure is None for figure in found.values()) == (name != "examine")


def test_a_defect_of_a_measure_shows_itself(network, target, monkeypatch):
    monkeypatch.setattr(solving, "find_far_pair", None)
    exact = target_polytope(settings(), network, target, None)
    with pytest.raises(TypeError):
        measure_extents(settings("exact.width_pixels=1").exact, exact, seed=0)


def test_a_measure_that_fails_loses_no_run(digits, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ProgramError("The ball was too round.")

    for name in FAILURES:
        monkeypatch.setattr(solving, name, fail)
    (tmp_path / "empty").mkdir()
    out, image = tmp_path / "run", sorted(digits.rglob("*.png"))[0]
    config = load_config(overrides=[*EXTENTS, "exact.width_pixels=1"])
    pipeline.find_exact(config, image, out, images=tmp_path / "empty")
    summary = json.loads((out / "summary.json").read_text())
    missing = summary["exact"]["extents"]["not_measured"]
    assert set(missing) == {"theory", "ball_radius", "far_pair", "most_changed"}
    assert "empty" in summary["not_measured"]["other images"]
    assert summary["dataset_distance_mean"] is summary["certificate"]["others"] is None
    page = (out / "report.html").read_text()
    assert "Not measured, ball radius: The ball was too round." in page
    assert "Not measured, other images" in page
    assert load_vertices(open_run(out))[0].shape == (2, 28, 28, 1)


@pytest.mark.parametrize(
    ("stage", "name"), [("exact", "write_report"), ("collide", "write_summary")]
)
def test_vertices_are_kept_where_what_follows_fails(
    digits, tmp_path, monkeypatch, caplog, stage, name
):
    (image, other), out = sorted(digits.rglob("*.png"))[:2], tmp_path / "run"
    config = load_config(overrides=[*SMALL, "optimiser.steps=2", "optimiser.check_every=1"])

    def make():
        if stage == "exact":
            pipeline.find_exact(config, image, out)
        else:
            pipeline.collide(config, other, image, out)

    def fail(*_):
        raise ProgramError("It is not to be.")

    with monkeypatch.context() as patched:
        patched.setattr(collide, name, fail)
        with pytest.raises(ProgramError, match="not to be"):
            make()
    partial = tmp_path / "run.partial"
    assert f"The vertices are found and kept in {partial}." in caplog.text
    kept = (partial / "vertex-0.png").read_bytes()
    make()
    assert (out / "vertex-0.png").read_bytes() == kept
    assert json.loads((out / "summary.json").read_text())["num_vertices"] == 2


def test_an_image_of_another_size_is_refused(tmp_path):
    write_png(tmp_path / "a.png", np.zeros((27, 28, 1), np.uint8))
    with pytest.raises(ImageError, match=r"28 x 27 pixels, but .* takes 28 x 28"):
        pipeline.find_exact(load_config(overrides=SMALL), tmp_path / "a.png", tmp_path / "run")
    assert not list(tmp_path.glob("run*"))


def test_a_layer_further_back_is_refused_and_nothing_stays(digits, tmp_path):
    image = sorted(digits.rglob("*.png"))[0]
    config = load_config(overrides=[*SMALL, "network.layer=fc2"])
    with pytest.raises(NetworkError, match=r"'act2' of mlp is not affine.* 'act1' \(ReLU\)"):
        pipeline.find_exact(config, image, tmp_path / "run")
    assert not list(tmp_path.glob("run*"))


def test_a_target_in_the_folder_of_another_class_is_warned_of(digits, tmp_path, caplog):
    image = sorted(digits.rglob("*.png"))[0]
    classes = [str(label) for label in range(10)]
    said = []
    for label in classes[:2]:
        folder = tmp_path / label
        folder.mkdir()
        (folder / "a.png").write_bytes(image.read_bytes())
        caplog.clear()
        pipeline.find_exact(load_config(overrides=SMALL), folder / "a.png", tmp_path / f"r{label}")
        said.append("collides with a mistake" in caplog.text)
    predicted = json.loads((tmp_path / "r0" / "summary.json").read_text())["target_class_name"]
    assert said == [predicted != label for label in classes[:2]]


PATCHES = (
    "images.size_px=28",
    "patches.window_px=7",
    "patches.stride_px=7",
    "patches.patch_px=7",
    "retrieval.query_stride_px=7",
    "retrieval.k=4",
    "retrieval.leak_guard=false",
    "retrieval.engine=exact",
    "index.components=16",
    "optimiser.num_vertices=3",
)


@pytest.mark.parametrize("coefficient_size", [1, 7])
def test_compositions_of_patches_collide_exactly(digits, tmp_path, coefficient_size, caplog):
    size = f"composition.coefficient_size={coefficient_size}"
    config = load_config(overrides=[*SMALL, *PATCHES, size, "network.layer=fc1"])
    image = sorted(digits.rglob("*.png"))[0]
    pipeline.index(config, digits, tmp_path / "store")
    pipeline.retrieve(config, [image], tmp_path / "store", tmp_path / "n.h5")
    out = tmp_path / "run"
    pipeline.find_exact(config, image, out, neighbours_path=tmp_path / "n.h5")
    summary = json.loads((out / "summary.json").read_text())
    assert summary["parameterisation"] == "patches, exact"
    assert summary["exact"]["violation_max"] < 1e-9
    assert all(vertex["is_vertex"] for vertex in summary["exact"]["vertices"])
    # 192 coefficients, 16 sums and some hundred equations: with one a patch nothing is left.
    assert (summary["unrounded"]["vertex_distance_mean"] > 1) == (coefficient_size == 7)
    assert ("all vertices are one image" in caplog.text) == (coefficient_size == 1)
