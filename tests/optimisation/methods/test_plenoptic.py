"""The bridge to plenoptic: what it is given, what it gives back, and what is left as it was."""

import importlib

import numpy as np
import pytest
import torch

from patchcollide.config_files import load_config
from patchcollide.errors import DivergedError, MissingLibraryError, TargetError
from patchcollide.images.tensors import as_batch
from patchcollide.networks.targets import Target
from patchcollide.optimisation.methods.plenoptic_metamer import PlenopticModel, import_plenoptic
from patchcollide.optimisation.methods.problem import Problem, begin
from patchcollide.optimisation.methods.registry import method_of, require_applicable
from patchcollide.optimisation.vertices import make_parameterisation, make_task
from tests.conftest import SMALL


@pytest.fixture
def plenoptic():
    pytest.importorskip("plenoptic", exc_type=ImportError)
    return import_plenoptic()


def picture(seed):
    return np.random.default_rng(seed).integers(1, 255, (32, 32, 3), dtype=np.uint8)


def synthesised(network, *overrides, target=None):
    """Returns the images of two vertices and the state of the method."""
    wanted = ["method=plenoptic", "optimiser.num_vertices=2", *overrides]
    config = load_config(overrides=[*SMALL, *wanted])
    target = target or Target.of_picture(network, picture(2))
    task = make_task(config, network, target)
    begun, start = begin(config, picture(1), target)
    begins = make_parameterisation(begun, network, start, None)
    return method_of(config)(Problem(config, network, target, task, begins))


@pytest.mark.parametrize("match", ["pre_activation", "activation"])
def test_a_network_and_a_target_are_a_model_and_an_image_of_plenoptic(
    plenoptic, small_network, match
):
    model, image = PlenopticModel(small_network, match), as_batch(picture(2)[None])
    plenoptic.validate.validate_input(image, no_batch=True)
    plenoptic.validate.validate_model(model, image_shape=image.shape)
    z = small_network(image).pre_activation
    expected = z if match == "pre_activation" else small_network.call.activation(z)
    torch.testing.assert_close(model(image), expected)


def test_metamers_are_those_that_plenoptic_makes_by_hand(plenoptic, small_network):
    images, state = synthesised(small_network, "optimiser.steps=7", "optimiser.check_every=3")
    config = load_config(overrides=[*SMALL, "method=plenoptic", "optimiser.num_vertices=2"])
    target = Target.of_picture(small_network, picture(2))
    begun, start = begin(config, picture(1), target)
    starts = make_parameterisation(begun, small_network, start, None).images().detach()
    goal = small_network(as_batch(picture(2)[None])).pre_activation.detach()
    moved = starts.clone().requires_grad_()
    adam = torch.optim.Adam([moved], lr=0.01, amsgrad=True)
    losses = []
    for _ in range(7):
        adam.zero_grad()
        outside = (moved - moved.clamp(0, 1)).square().sum()
        loss = (small_network(moved).pre_activation - goal).square().mean() + 0.1 * outside
        losses.append(float(loss.detach()))
        loss.backward()
        adam.step()
    torch.testing.assert_close(images, moved.detach().clamp(0, 1), rtol=0, atol=1e-4)
    assert [row["loss"] for row in state.history[:-1]] == pytest.approx(losses, rel=1e-4)
    assert [row["step"] for row in state.history] == list(range(8))
    assert state.end == {"steps": 7, "stopped_because": "all steps were done"}


def test_features_come_near_and_each_image_ends_elsewhere(plenoptic, small_network):
    images, state = synthesised(small_network, "optimiser.steps=60")
    assert state.history[-1]["loss"] < 0.1 * state.history[0]["loss"]
    assert (images[0] - images[1]).abs().mean() > 0.05
    assert images.min() >= 0
    assert images.max() <= 1


def test_plenoptic_s_own_rule_may_end_it(plenoptic, small_network):
    overrides = ["baselines.start=target", "optimiser.start_noise=0", "optimiser.steps=200"]
    _, state = synthesised(small_network, *overrides, "optimiser.check_every=70")
    assert 50 <= state.step < 70
    assert "changed by less than 0.0001 in 50 steps" in state.stopped_because


def test_it_is_silent_and_leaves_the_caller_s_generator_and_plenoptic_alone(
    plenoptic, small_network, capfd
):
    before = torch.get_rng_state()
    first, again, other = (
        synthesised(small_network, "optimiser.steps=2", f"seed={seed}")[0] for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert capfd.readouterr() == ("", "")
    plenoptic.Metamer(as_batch(picture(2)[None]), PlenopticModel(small_network)).synthesize(1)
    assert "1/1" in capfd.readouterr().err


def test_a_loss_that_is_no_number_is_told_as_everywhere(plenoptic, small_network, monkeypatch):
    def fail(*_args, **_options):
        raise ValueError("Found a NaN in loss during optimization.")

    monkeypatch.setattr(plenoptic.Metamer, "synthesize", fail)
    with pytest.raises(DivergedError, match=r"Found a NaN in loss.*Choose another --method"):
        synthesised(small_network)


def test_a_target_without_a_picture_is_refused(plenoptic, small_network):
    target = Target.of_features(small_network, torch.randn(small_network.units))
    with pytest.raises(TargetError, match=r"'plenoptic' takes the target's image.*Give --target"):
        synthesised(small_network, target=target)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(importlib, "import_module", missing)
    config = load_config(overrides=["method=plenoptic"])
    with pytest.raises(MissingLibraryError, match=r"pip install 'patchcollide\[plenoptic\]'"):
        require_applicable(config, pixels=True)
