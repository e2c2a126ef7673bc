import torch
from torch import nn

from patchcollide.config import Config
from patchcollide.config_files import load_config, parse_recorded
from patchcollide.networks.network import CollisionNetwork
from patchcollide.optimisation.passes import Passes


def network_of(**options):
    """Eight pixels, a convolution and a batch norm."""
    generator = torch.Generator().manual_seed(2)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
    )
    for tensor in (*module.parameters(), module.state_dict()["1.running_mean"]):
        tensor.data.copy_(torch.randn(tensor.shape, generator=generator))
    return CollisionNetwork(
        module, name="small", layer="2", input_size=8, mean=(0.5,) * 3, scale=(1.0,) * 3, **options
    )


def squares(z, first):
    return z.square().sum(), {"numbers": torch.arange(first, first + len(z))}


def gradient(network, images_per_pass):
    images = torch.rand((5, 3, 8, 8), generator=torch.Generator().manual_seed(4))
    return Passes(network, images_per_pass).gradient(images, squares)


def runs_of_norm(network):
    """Counts how often the network's own norm runs in two passes."""
    ran = []
    hook = network.module[1].register_forward_hook(lambda *_: ran.append(1))
    gradient(network, 3)
    hook.remove()
    return len(ran)


def test_gradients_come_in_order_whatever_fits_into_a_pass():
    terms, whole = gradient(network_of(), 5)
    again, parts = gradient(network_of(), 2)
    assert terms["numbers"].tolist() == again["numbers"].tolist() == [0, 1, 2, 3, 4]
    torch.testing.assert_close(parts, whole)


def test_a_folded_search_has_the_same_gradients_without_the_norm():
    _, own = gradient(network_of(), 5)
    _, folded = gradient(network_of(folded=True), 5)
    torch.testing.assert_close(folded, own, rtol=1e-4, atol=1e-5)
    network = network_of(folded=True)
    passes = Passes(network, 3)
    ran = []
    network.module[1].register_forward_hook(lambda *_: ran.append(1))
    passes.gradient(torch.rand(5, 3, 8, 8), squares)
    assert not ran


def test_a_search_that_is_not_folded_uses_the_network_itself():
    assert runs_of_norm(network_of()) == 2


def test_proofs_are_never_of_a_folded_copy():
    network = network_of(folded=True)
    assert isinstance(network.module[1], nn.BatchNorm2d)
    assert not network.in_float64().folded
    assert isinstance(network.in_float64().module[1], nn.BatchNorm2d)


def test_only_a_folded_run_says_so_and_old_ones_are_not():
    assert Config().identity()["network"]["folded"] is True
    plain = load_config(overrides=["network.folded=false"])
    assert "folded" not in plain.identity()["network"]
    recorded = Config().model_dump(mode="json")
    del recorded["network"]["folded"]
    assert not parse_recorded(recorded, "an old run").network.folded
