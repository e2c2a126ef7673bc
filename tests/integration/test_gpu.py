"""What runs on a GPU, held against the processor; `pytest -m gpu` where there is one."""

import numpy as np
import pytest
import torch

from patchcollide.config import Config, Network
from patchcollide.config_files import load_config
from patchcollide.evaluation.evaluate import Collision, evaluate_polytope
from patchcollide.networks.loading import load_network
from patchcollide.networks.targets import Target
from patchcollide.optimisation.objective import HullObjective
from patchcollide.optimisation.vertices import make_parameterisation, make_task
from patchcollide.randomness import seeded
from tests.helpers.presence import present

pytestmark = pytest.mark.gpu

SETTINGS = ["optimiser.num_vertices=2", "objective.hull_samples=2", "evaluation.num_samples=16"]


def pictures(size):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (2, size // 32, size // 32, 3), dtype=np.uint8)
    return coarse.repeat(32, axis=1).repeat(32, axis=2)


def first_step(device, precision="float32"):
    config: Config = load_config(overrides=SETTINGS)
    network = load_network(Network(device=device, precision=precision))
    source, target = pictures(network.input_size)
    task = make_task(config, network, Target.of_picture(network, target))
    parameterisation = make_parameterisation(config, network, source, None)
    row = HullObjective(task).backward(parameterisation, 0, seeded(0))
    return row, present(parameterisation.parameter.grad).cpu()


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-2), ("bfloat16", 0.1)])
def test_a_step_on_a_gpu_has_the_gradient_of_the_processor(precision, tolerance):
    expected, gradient = first_step("cpu")
    found, on_gpu = first_step("cuda", precision)
    assert found["loss"] == pytest.approx(expected["loss"], rel=tolerance)
    cosine = torch.nn.functional.cosine_similarity(gradient.ravel(), on_gpu.ravel(), dim=0)
    assert cosine > 1 - tolerance


def test_an_evaluation_on_a_gpu_has_the_numbers_of_the_processor():
    measured = []
    for device in ("cpu", "cuda"):
        network = load_network(Network(device=device))
        source, target = pictures(network.input_size)
        vertices = np.stack([target, source])
        collision = Collision(
            network,
            source,
            Target.of_picture(network, target),
            vertices,
            unrounded=vertices.astype(np.float32),
        )
        settings = load_config(overrides=SETTINGS).evaluation
        measured.append(evaluate_polytope(collision, settings, seed=0).figures)
    expected, found = measured
    assert found["target_class"] == expected["target_class"]
    for name in ("success_rate", "sample_probability_mean", "vertex_distance_mean"):
        assert found[name] == pytest.approx(expected[name], rel=1e-2)
