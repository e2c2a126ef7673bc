import numpy as np
import pytest
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.errors import InputError, NetworkError
from patchcollide.images.pictures import read_pixels
from patchcollide.reproduction.figure1 import lower_unit, write_half_planes
from patchcollide.reproduction.figure1_layer import choose_target, train_planar_layer


@pytest.fixture(scope="module")
def layer():
    return train_planar_layer(0, epochs=25)


def test_the_target_activates_no_unit_and_is_classified_right(layer):
    z = layer.points @ layer.matrix.T + layer.offset
    assert (z[layer.target] < 0).all()
    assert layer.correct[layer.target]
    assert layer.polytope.contains(layer.points[layer.target]).inside
    # Of such digits it is the one deepest inside.
    depth = (-z / np.linalg.norm(layer.matrix, axis=1)).min(axis=1)
    assert depth[layer.target] == depth[layer.correct].max()


def test_training_is_seeded():
    # Both here: a fixture of the module is made with another number of threads than its tests.
    first, again = (train_planar_layer(0, epochs=25) for _ in range(2))
    np.testing.assert_array_equal(again.points, first.points)
    np.testing.assert_array_equal(again.matrix, first.matrix)


def test_without_a_digit_inside_there_is_no_target():
    z = np.array([[1.0, -1.0], [-1.0, -1.0]])
    with pytest.raises(NetworkError, match="none is classified right with all 2 units"):
        choose_target(z, np.eye(2), np.array([True, False]))
    assert choose_target(z, np.eye(2), np.array([True, True])) == 1


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_equal_layers_give_equal_figures(layer, tmp_path, suffix):
    lowered = lower_unit(layer.polytope, 0, layer.points[layer.target])
    for name in "ab":
        write_half_planes(tmp_path / f"{name}{suffix}", layer, lowered)
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second
    if suffix == ".png":
        assert read_pixels(tmp_path / "a.png").std() > 20


def test_other_formats_are_refused(layer, tmp_path):
    lowered = lower_unit(layer.polytope, 0, layer.points[layer.target])
    with pytest.raises(InputError, match=r"a\.gif should end in \.png or \.pdf or \.svg"):
        write_half_planes(tmp_path / "a.gif", layer, lowered)


def test_the_command_draws_and_refuses_before_it_trains(tmp_path):
    outcome = CliRunner().invoke(app, ["figure1", "--out", str(tmp_path / "f.gif")])
    assert outcome.exit_code == 2
    outcome = CliRunner().invoke(app, ["figure1", "--out", str(tmp_path / "f.png"), "--unit", "3"])
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "f.png").is_file()
