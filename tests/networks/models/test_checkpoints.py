"""Checkpoints as training scripts write them: found by content, renamed, or refused precisely."""

import argparse
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.models.weights import classes_of, load_weights, read_state_dict
from tests.helpers.pickles import Ran
from tests.helpers.scripting import as_torchscript


def module():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def weights():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return module().state_dict()


def prefixed(prefix, found=None):
    return {prefix + name: tensor for name, tensor in (found or weights()).items()}


def averaged():
    return torch.optim.swa_utils.AveragedModel(module()).state_dict() | prefixed("module.")


CHECKPOINTS = {
    "plain": weights,
    "state_dict": lambda: {"state_dict": weights(), "epoch": 3},
    "model": lambda: {"model": weights(), "optimizer": {"state": {}, "param_groups": []}},
    "net": lambda: {"net": weights(), "acc": 93.1},
    "params": lambda: {"params": weights()},
    "within another": lambda: {"model": {"state_dict": weights()}},
    "parallel": lambda: {"state_dict": prefixed("module.")},
    "compiled": lambda: {"model": prefixed("_orig_mod.")},
    "lightning": lambda: {
        "state_dict": prefixed("model.") | {"loss.weight": torch.ones(2)},
        "pytorch-lightning_version": "2.0",
        "hyper_parameters": {"lr": 0.1},
        "callbacks": {},
    },
    "parallel and compiled": lambda: prefixed("module._orig_mod."),
    "an average": lambda: {"state_dict_ema": averaged(), "epoch": 1},
    "beside an average": lambda: {"state_dict": weights(), "state_dict_ema": prefixed("x.")},
    "options of a command line": lambda: {
        "model": weights(),
        "args": argparse.Namespace(lr=0.1, data="x", sizes=(1, 2)),
        "more": SimpleNamespace(a=1),
    },
    "numbers of NumPy": lambda: {
        "state_dict": weights(),
        "best_acc": np.float64(0.91),
        "epoch": np.int64(3),
        "loss": np.float32(1),
    },
    "without counts of batches": lambda: {
        name: tensor for name, tensor in weights().items() if "num_batches" not in name
    },
    "in half": lambda: {name: tensor.half().float() for name, tensor in weights().items()},
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("name", CHECKPOINTS)
@pytest.mark.filterwarnings("ignore:.*_use_new_zipfile_serialization")
def test_weights_are_found_wherever_training_scripts_put_them(name, legacy, tmp_path):
    path = tmp_path / "best.pth.tar"
    torch.save(CHECKPOINTS[name](), path, _use_new_zipfile_serialization=not legacy)
    filled = module()
    load_weights(filled, read_state_dict(path), str(path))
    for key, tensor in weights().items():
        torch.testing.assert_close(filled.state_dict()[key], tensor, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("suffix", [".bin", ".ckpt", "", ".pth"])
def test_safetensors_are_told_by_their_content(suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    save_file(weights(), path)
    assert read_state_dict(path).keys() == weights().keys()


def test_what_was_taken_is_said(tmp_path, caplog):
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": prefixed("module."), "state_dict_ema": weights()}, path)
    with caplog.at_level(logging.INFO):
        load_weights(module(), read_state_dict(path), "a.ckpt")
    assert "weights are taken from 'state_dict' (state_dict_ema beside it is left" in caplog.text
    assert "names begin with 'module.' there." in caplog.text


def test_weights_of_what_is_inside_a_module_are_taken_for_it():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = module()

    filled = Around()
    load_weights(filled, weights(), "here")
    assert torch.equal(filled.model.state_dict()["3.bias"], weights()["3.bias"])


OTHERS = {
    "a page": (b"<!DOCTYPE html>", "is a web page, as a download that failed leaves it"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1", "a pointer to a file of Git LFS"),
    "an index": (b'{"weight_map": {}}', "is JSON, such as an index of several files"),
    "Keras's": (b"\x89HDF\r\n\x1a\n", "is HDF5, as Keras writes it"),
    "nothing": (b"", "is damaged or none: .* but it is empty"),
    "text": (b"hello, world", "is damaged or none: .* but it begins with b'hello, w'"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_told_what_they_are(name, tmp_path):
    content, message = OTHERS[name]
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(NetworkError, match=message):
        read_state_dict(tmp_path / "weights.pth")


def test_code_is_named_and_not_run(tmp_path):
    torch.save({"state_dict": weights(), "extra": Ran()}, tmp_path / "code.ckpt")
    with pytest.raises(NetworkError, match=r"was refused: it holds Python objects \(.*\)"):
        read_state_dict(tmp_path / "code.ckpt")
    torch.save(module(), tmp_path / "whole.pt")
    with pytest.raises(NetworkError, match=r"refused: .* \(torch\.nn\.modules\..*save module"):
        read_state_dict(tmp_path / "whole.pt")
    assert Ran.traces == ()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_network_of_torchscript_is_named(tmp_path):
    torch.jit.save(as_torchscript(module()), tmp_path / "scripted.pt")
    with pytest.raises(NetworkError, match=r"a whole network of TorchScript\. Name a function"):
        read_state_dict(tmp_path / "scripted.pt")


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        (lambda tensor: tensor.to(torch.complex64), "complex"),
        (lambda tensor: tensor.to(torch.int8), "int8"),
    ],
)
def test_other_numbers_than_real_ones_are_refused(changed, kind):
    found = weights()
    found["3.weight"] = changed(found["3.weight"])
    with pytest.raises(NetworkError, match=f"here holds {kind} numbers under 3.weight, where"):
        load_weights(module(), found, "here")


def test_a_head_of_another_width_is_told_from_another_network():
    found = weights()
    assert classes_of(module().state_dict(), found) is None
    found["3.weight"], found["3.bias"] = torch.zeros(7, 4), torch.zeros(7)
    assert classes_of(module().state_dict(), found) == 7
    found["0.weight"] = torch.zeros(4, 1, 3, 3)
    assert classes_of(module().state_dict(), found) is None
    with pytest.raises(NetworkError, match=r"3\.weight \(7, 4\) instead of \(2, 4\)"):
        load_weights(module(), found, "here")
