"""Files of weights are read as they are, or refused in a sentence."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.models.efficientnet_lite0 import (
    build_efficientnet_lite0,
    load_efficientnet_lite0,
)
from patchcollide.networks.models.vgg16 import load_vgg16
from patchcollide.networks.models.weights import load_weights, read_state_dict
from tests.helpers.pickles import Ran


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_weights_come_back_from_a_file(suffix, tmp_path, vgg):
    path = tmp_path / f"narrow{suffix}"
    state_dict = {name: t.contiguous() for name, t in vgg.module.state_dict().items()}
    if suffix == ".safetensors":
        save_file(state_dict, path)
    else:
        torch.save({"state_dict": state_dict, "epoch": 3}, path)
    assert load_vgg16(weights=str(path), width=4).digest == vgg.digest


def test_efficientnet_reads_a_weights_file_by_name(tmp_path, efficientnet):
    path = tmp_path / "lite0.safetensors"
    module = build_efficientnet_lite0("pretrained", seed=0)
    save_file({name: tensor.contiguous() for name, tensor in module.state_dict().items()}, path)
    assert load_efficientnet_lite0(weights=str(path)).digest == efficientnet.digest


def test_missing_and_misnamed_weight_files_are_refused(tmp_path):
    with pytest.raises(NetworkError, match=r"pretraned is missing.*'pretrained', 'random' or"):
        load_vgg16(weights="pretraned", width=1)
    np.savez(tmp_path / "weights.npz", conv1_1_W=np.zeros(1))
    with pytest.raises(NetworkError, match=r"is NumPy's \.npz, which is read for vgg16 alone"):
        read_state_dict(tmp_path / "weights.npz")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a file of weights", b"\x80\x02}q\x00."])
def test_damaged_weight_files_are_refused(suffix, content, tmp_path):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(
        NetworkError, match=rf"weights{suffix} (is damaged|was refused|should hold)"
    ):
        read_state_dict(path)


def test_a_truncated_weights_file_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(NetworkError, match="is damaged or not a PyTorch file"):
        read_state_dict(path)


def test_code_in_a_weights_file_is_refused_and_not_run(tmp_path):
    torch.save({"a": Ran()}, tmp_path / "code.pth")
    with pytest.raises(NetworkError, match="was refused: it holds Python objects"):
        read_state_dict(tmp_path / "code.pth")
    assert Ran.traces == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "holds a list"), ({"epoch": 3}, "other values under epoch"), ({}, "holds nothing")],
)
def test_files_without_tensors_are_refused(content, message, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(NetworkError, match=message):
        read_state_dict(tmp_path / "weights.pt")


def test_weights_of_another_architecture_are_refused_in_one_sentence():
    found = {"weight": torch.zeros(2, 2), "extra": torch.zeros(1)}
    message = (
        r"here does not fit Linear: missing: bias; not expected: extra; of another shape: "
        r"weight \(2, 2\) instead of \(3, 2\)\."
    )
    with pytest.raises(NetworkError, match=message):
        load_weights(nn.Linear(2, 3), found, "here")


def test_half_precision_weights_become_the_modules_type():
    module = nn.Linear(2, 1)
    load_weights(module, {"weight": torch.ones(1, 2).half(), "bias": torch.ones(1).half()}, "here")
    assert module.weight.dtype == torch.float32
