import pytest

from patchcollide.config import Network
from patchcollide.errors import NetworkError
from patchcollide.networks.loading import NetworkSpec, merge_specs, parse_spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("mlp", NetworkSpec("mlp")),
        ("vgg16:fc6", NetworkSpec("vgg16", layers=("fc6",))),
        ("mlp=a/b.safetensors", NetworkSpec("mlp", "a/b.safetensors")),
        ("mlp=a.safetensors:fc1, fc2", NetworkSpec("mlp", "a.safetensors", ("fc1", "fc2"))),
        ("mlp=random:all", NetworkSpec("mlp", "random", ("all",))),
    ],
)
def test_networks_are_named_in_a_few_letters(text, spec):
    assert parse_spec(text) == spec


def test_a_files_name_may_have_a_colon(tmp_path):
    path = tmp_path / "a:b.safetensors"
    path.touch()
    assert parse_spec(f"mlp={path}") == NetworkSpec("mlp", str(path))
    assert parse_spec(f"mlp={path}:fc2") == NetworkSpec("mlp", str(path), ("fc2",))


@pytest.mark.parametrize("text", ["", "=a", "mlp=", "mlp:", ":fc1", "mlp:fc1,,fc2", "mlp=:fc1"])
def test_what_names_no_network_is_refused(text):
    with pytest.raises(NetworkError, match=r"names no network\. Expected is NAME"):
        parse_spec(text)


def test_layers_of_one_network_are_joined():
    specs = [parse_spec(text) for text in ("mlp:fc2", "lenet5", "mlp:fc1,fc2", "mlp=random:fc1")]
    assert merge_specs(specs) == [
        NetworkSpec("mlp", layers=("fc2", "fc1")),
        NetworkSpec("lenet5"),
        NetworkSpec("mlp", "random", ("fc1",)),
    ]


def test_settings_keep_the_device_and_the_tolerance():
    base = Network(name="vgg16", layer="fc6", weights="x", tolerance=0.5, device="cpu")
    found = parse_spec("mlp=random:fc1").settings(base)
    assert found == Network(name="mlp", weights="random", tolerance=0.5, device="cpu")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("mlp", "mlp"),
        ("mlp=random", "mlp=random"),
        ("mlp=a/b.safetensors:fc1", "mlp=b.safetensors"),
    ],
)
def test_labels_are_short(text, label):
    assert parse_spec(text).label == label
