"""The weights of VGG16 come from where one says, or from the folder of torch.hub."""

import urllib.error

import pytest
import torch

from patchcollide.config import Network
from patchcollide.errors import NetworkError
from patchcollide.networks.loading import load_network
from patchcollide.networks.models.vgg16 import load_vgg16


def test_without_a_connection_vgg16_says_which_file_to_get(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    file, folder = r"vgg16-397923af\.pth", f"{tmp_path}/hub/checkpoints"
    with pytest.raises(
        NetworkError, match=rf"no route.* {file} .*into {folder}, .*\.npz file: --weights FILE"
    ):
        load_network(Network(name="vgg16"))


def test_downloaded_weights_are_read_from_torch_hubs_folder(monkeypatch, tmp_path, vgg):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def download(url, destination, **_):
        torch.save(vgg.module.state_dict(), destination)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert load_vgg16(width=4).digest == vgg.digest
    assert (tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth").is_file()
