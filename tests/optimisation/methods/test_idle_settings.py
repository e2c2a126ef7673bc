"""Settings that count for nothing beside others are told of, and no others."""

import logging

import numpy as np
import pytest

from patchcollide.api import find_polytope
from patchcollide.config_files import builtin_config, load_config
from patchcollide.optimisation.methods.registry import idle_settings, require_applicable
from tests.helpers.pictures import picture

OF_WEIGHTS = {
    "objective.active": 9.0,
    "objective.inactive": 9.0,
    "objective.penalty": "absolute",
    "objective.total_variation": 0.1,
    "objective.diversity": 3.0,
    "objective.units": "random",
    "optimiser.method": "authors",
    "optimiser.stop_success": 0.5,
    "optimiser.stop_probability": 0.5,
    "optimiser.stop_gap": 0.1,
    "optimiser.stop_distance": 1.0,
}
OF_A_BOUND = {"objective.source_distance": 0.5, "objective.coarseness": 1.0}


@pytest.mark.parametrize(
    ("overrides", "idle"),
    [
        ([], []),
        (["objective.diversity=2", "seed=1"], ["objective.diversity"]),
        (["objective.tightness=0", "objective.active=10", "optimiser.method=authors"], []),
        (["objective.tightness=0", "objective.coarseness=1"], ["objective.coarseness"]),
        (["objective.coarseness=1", "optimiser.stop_margin=0.1"], []),
        (["method=metamer", "objective.diversity=2"], []),
    ],
)
def test_settings_of_weights_and_of_a_bound_are_told_apart(overrides, idle, caplog):
    config = load_config(overrides=overrides)
    assert idle_settings(config) == idle
    with caplog.at_level(logging.WARNING):
        require_applicable(config, pixels=True)
    (told,) = [record.getMessage() for record in caplog.records] or [""]
    assert [name for name in told.replace(",", "").split() if name in idle] == idle


@pytest.mark.parametrize("name", ["demo", "mnist", "quick", "section4", "section4_authors"])
def test_no_settings_of_our_own_count_for_nothing(name):
    assert idle_settings(load_config(builtin_config(name))) == []


def test_settings_are_idle_by_what_vertices_come_of_them(small_network):
    """The same to the bit with and without; where they count, others."""

    def vertices(**settings):
        few = {"optimiser.steps": 12, "optimiser.check_every": 4, "optimiser.num_vertices": 2}
        given = few | {"optimiser.learning_rate": 0.2} | settings
        return find_polytope(small_network, "act", picture(0), picture(1), settings=given).vertices

    unbound = {"objective.tightness": 0.0}
    np.testing.assert_array_equal(vertices(**OF_WEIGHTS), vertices())
    np.testing.assert_array_equal(vertices(**unbound, **OF_A_BOUND), vertices(**unbound))
    assert (vertices(**unbound, **OF_WEIGHTS) != vertices(**unbound)).any()
    assert idle_settings(load_config(overrides=words(OF_WEIGHTS))) == list(OF_WEIGHTS)
    assert idle_settings(load_config(overrides=words(unbound | OF_A_BOUND))) == list(OF_A_BOUND)


def words(settings):
    return [f"{name}={value}" for name, value in settings.items()]
