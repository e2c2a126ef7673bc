"""Networks by the names that torchvision and timm have for them."""

import urllib.error
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from patchcollide.config import Network
from patchcollide.errors import NetworkError
from patchcollide.networks import factories
from patchcollide.networks.loading import NetworkSpec, load_at_any_layer, load_network, parse_spec
from patchcollide.networks.models import timm_models

SMALL: dict[str, Any] = {"name": "torchvision:squeezenet1_1", "weights": "random", "input_size": 32}


def test_a_network_of_torchvision_has_its_librarys_record():
    network = load_network(Network(**SMALL))
    assert (network.input_size, network.num_classes, network.class_name(3)) == (
        32, 1000, "tiger shark",
    )  # fmt: skip
    assert network.layer == "classifier.2"
    black = network.prepared(torch.zeros(1, 3, 32, 32))[0, :, 0, 0]
    expected = -torch.tensor([0.485, 0.456, 0.406]) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(black, expected)
    settings = Network(**SMALL, mean=(0.5, 0.5, 0.5), scale=(0.25, 0.25, 0.25))
    other = load_network(settings).prepared(torch.zeros(1, 3, 32, 32))
    assert other.unique().tolist() == [-2]


def test_a_network_of_timm_has_its_own_record():
    network = load_network(Network(name="timm:test_resnet", weights="random"))
    assert network.input_size == 160
    assert network.class_name(3) == "tiger shark"
    assert network.usable_layers[0] == "conv1.2"


def test_random_weights_follow_the_seed():
    before = torch.get_rng_state()
    digests = [load_network(Network(**SMALL), seed).digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_with_other_classes_gets_a_head_of_as_many(tmp_path):
    module = torchvision.models.squeezenet1_1(num_classes=7)
    torch.save({"model": nn.DataParallel(module).state_dict()}, tmp_path / "mine.pth.tar")
    network = load_network(Network(**SMALL | {"weights": str(tmp_path / "mine.pth.tar")}))
    assert (network.num_classes, network.class_names) == (7, ())
    weight = network.module.state_dict()["classifier.1.weight"]
    assert torch.equal(weight.contiguous(), module.state_dict()["classifier.1.weight"])


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(nn.Linear(2, 3).state_dict(), tmp_path / "other.bin")
    with pytest.raises(NetworkError, match=r"other\.bin does not fit SqueezeNet: missing: .* and"):
        load_network(Network(**SMALL | {"weights": str(tmp_path / "other.bin")}))


def test_without_a_connection_torchvisions_file_and_its_place_are_named(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    expected = r"no route.* Get squeezenet1_1-b8a52dc0\.pth .*/hub/checkpoints, .*--weights FILE"
    with pytest.raises(NetworkError, match=expected):
        load_network(Network(**SMALL | {"weights": "pretrained"}))


def test_pretrained_weights_are_read_where_torch_hub_keeps_them(monkeypatch, tmp_path):
    def download(_, destination, **__):
        torch.save(torchvision.models.squeezenet1_1().state_dict(), destination)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert load_network(Network(**SMALL | {"weights": "pretrained"})).num_classes == 1000


def test_without_a_connection_timms_file_is_named(monkeypatch):
    def offline(name, pretrained, **options):
        raise OSError("no route")

    monkeypatch.setattr(timm_models, "_create", offline)
    expected = (
        r"timm:test_resnet could not be had: OSError: no route Get model\.safetensors of timm/"
    )
    with pytest.raises(NetworkError, match=expected):
        load_network(Network(name="timm:test_resnet"))


def test_a_smooth_network_says_which_tolerance_leaves_how_many_blind():
    settings = Network(name="timm:test_vit", weights="random")
    with pytest.raises(NetworkError, match=r"is a GELU, .*tolerance=0\.\d+; .* at 0\.001, .* 0\.1"):
        load_network(settings)
    assert load_at_any_layer(settings).usable_layers[-1].endswith("mlp.act")


def test_settings_of_what_has_its_own_are_refused():
    with pytest.raises(NetworkError, match=r"network\.input_size is for networks of libraries"):
        load_network(Network(name="lenet5", weights="random", input_size=32))


def make():
    network: Any = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 2))
    network.default_cfg = {"input_size": (1, 8, 8), "mean": (0.5,), "std": (0.25,)}
    return network


def test_a_function_is_run_with_the_seed_and_may_bring_a_record(monkeypatch):
    name = f"{__name__}:make"
    monkeypatch.setattr(factories, "_asked_for", {name})
    before = torch.get_rng_state()
    networks = [load_network(Network(name=name), seed) for seed in (1, 1, 2)]
    assert networks[0].digest == networks[1].digest != networks[2].digest
    assert (networks[0].channels, networks[0].input_size) == (1, 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_function_of_the_current_folder_is_found(monkeypatch, tmp_path):
    source = (
        "import torch\ndef make(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.ReLU())"
    )
    (tmp_path / "net_of_this_folder.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("nowhere")
    factories.ask_for("net_of_this_folder:make")
    network = load_network(Network(name="net_of_this_folder:make", input_size=4))
    assert network.units == 48


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("torchvision:resnet18", NetworkSpec("torchvision:resnet18")),
        ("timm:vit=a.bin:act", NetworkSpec("timm:vit", "a.bin", ("act",))),
        ("a.b:make:layer1.relu_1,x", NetworkSpec("a.b:make", layers=("layer1.relu_1", "x"))),
    ],
)
def test_names_of_libraries_have_two_parts(text, spec):
    assert parse_spec(text) == spec
