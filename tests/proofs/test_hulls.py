"""What is called proved is so, what is not is refuted by an image or left open."""

import numpy as np
import pytest
import torch
from torch import nn

from patchcollide.errors import InterruptedWorkError, NetworkError
from patchcollide.images.tensors import as_batch
from patchcollide.networks.network import CollisionNetwork
from patchcollide.progress import StopRequest
from patchcollide.proofs import edges, hulls
from patchcollide.proofs.attack import Worst
from patchcollide.proofs.bounds import HullBounds
from patchcollide.proofs.hulls import Claim, Prover, counterexample_picture
from patchcollide.proofs.knowledge import Knowledge
from patchcollide.proofs.results import sentence
from tests.helpers.random_networks import random_hull, random_network, target_of


class Tent(nn.Module):
    """Class 1 wins only near one point of two pixels' plane: within ``radius``, in L1."""

    def __init__(self, centre: tuple[float, float], radius: float) -> None:
        super().__init__()
        self.flatten, self.act, self.out = nn.Flatten(), nn.ReLU(), nn.Linear(4, 2)
        self.fc = nn.Linear(4, 4)
        with torch.no_grad():
            self.fc.weight.copy_(
                torch.tensor([[1.0, 0, 0, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, -1, 0, 0]])
            )
            first, second = centre
            self.fc.bias.copy_(torch.tensor([-first, first, -second, second]))
            self.out.weight.copy_(torch.tensor([[1.0] * 4, [0.0] * 4]))
            self.out.bias.copy_(torch.tensor([0.0, radius]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.out(self.act(self.fc(self.flatten(x))))
        return found


def tent(centre=(0.31, 0.27), radius=0.02) -> CollisionNetwork:
    return CollisionNetwork(
        Tent(centre, radius),
        name="tent",
        layer="act",
        input_size=2,
        mean=(0.0,),
        scale=(1.0,),
        class_names=("all", "planted"),
    )


def triangle() -> np.ndarray:
    """The corner of the plane of the first two pixels."""
    images = np.zeros((3, 2, 2, 1), np.uint8)
    images[1, 0, 0], images[2, 0, 1] = 255, 255
    return images


def prover_of(network, vertices, known=None, rounding=False, **claim):
    bounds = HullBounds.of(network, vertices, target_of(network, vertices), rounding=rounding)
    return Prover(bounds, Claim(rounding=rounding, **claim), known)


def test_a_violation_that_gradients_miss_is_found_by_bounds(monkeypatch):
    """One part in a thousand of the triangle; a search that finds nothing stands for bad luck."""
    network, vertices = tent(), triangle()
    monkeypatch.setattr(
        hulls, "find_worst", lambda *_, **__: Worst(0.5, torch.tensor([1.0, 0, 0]).double())
    )
    prover = prover_of(network, vertices, seconds=20)
    proof = prover.run()
    assert proof["result"] == "refuted"
    weights = torch.tensor(proof["counterexample"]["weights"]).double()
    image = (weights @ prover.bounds.vertices.flatten(1)).reshape(1, 1, 2, 2)
    assert prover.bounds.network(image).logits.argmax() == 1
    assert proof["margin"]["proved"] < 0


@pytest.mark.parametrize("seed", range(8))
def test_a_planted_violation_is_never_proved(seed):
    rng = np.random.default_rng(seed)
    point = rng.dirichlet([1, 1, 1])
    network = tent((point[1], point[2]), float(rng.uniform(0.002, 0.02)))
    proof = prover_of(network, triangle(), seconds=0.02).run()
    assert proof["result"] in ("refuted", "open")
    assert proof["margin"]["proved"] <= 0
    assert proof["share_proved"] < 1


def test_a_counterexample_is_an_image_of_another_class():
    network, vertices = tent(radius=0.2), triangle()
    prover = prover_of(network, vertices)
    proof = prover.run()
    assert proof["result"] == "refuted"
    assert proof["sentence"].startswith("Refuted: not every image between the 3 vertices is of")
    example = proof["counterexample"]
    assert (example["class_name"], example["survives_rounding"]) == ("planted", True)
    picture = counterexample_picture(prover.bounds, example)
    assert network.top(picture)[1] == "planted"
    assert float(prover.bounds.margin_at(torch.from_numpy(picture / 255).reshape(1, 1, 2, 2))) < 0


def test_a_violation_that_rounding_ends_is_none_of_the_rounded_images():
    """It lies between grey levels, where no 8-bit image is."""
    network = tent((100.5 / 255, 80.5 / 255), 0.3 / 255)
    exact = prover_of(network, triangle(), seconds=20).run()
    assert exact["result"] == "refuted"
    assert not exact["counterexample"]["survives_rounding"]
    assert "before rounding to 8 bits" in exact["sentence"]
    rounded = prover_of(network, triangle(), rounding=True, seconds=0.1).run()
    assert rounded["result"] == "open"  # A box around a point knows of no grey levels.


@pytest.mark.parametrize("rounding", [False, True])
def test_a_hull_of_one_class_is_proved(rounding):
    network, vertices = random_network(4), random_hull(4, 5, spread=3)
    proof = prover_of(network, vertices, rounding=rounding, gamma=0.9, seconds=2).run()
    assert proof["result"] == "proved"
    assert 0 < proof["margin"]["proved"] <= proof["margin"]["found"]
    assert proof["tau"]["found"] <= proof["tau"]["proved"] <= 0.9
    assert (proof["share_proved"], proof["part"], proof["counterexample"]) == (1, None, None)
    assert proof["sentence"].startswith("Proved: every image between the 5 vertices")
    assert ("rounded to 8 bits in any way" in proof["sentence"]) == rounding


@pytest.mark.parametrize("rounding", [False, True])
def test_a_network_that_first_flattens_colours_is_proved(rounding, rng):
    """Vertices have their channels last, networks first: what is flattened is another order."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2))
    network = CollisionNetwork(
        module,
        name="flat",
        layer="2",
        input_size=2,
        mean=(0.1, 0.2, 0.3),
        scale=(0.5, 1.0, 2.0),
        class_names=("a", "b"),
    )
    vertices = 100 + rng.integers(0, 8, (3, 2, 2, 3), dtype=np.uint8)
    proof = prover_of(network, vertices, rounding=rounding, seconds=2).run()
    assert proof["result"] == "proved"
    logits = network(as_batch(vertices)).logits.double()
    margins = (logits[:, :1] - logits[:, 1:]).abs().flatten()
    assert proof["margin"]["proved"] <= margins.min() * (1 + 1e-5)
    assert proof["margin"]["proved"] >= 0.8 * margins.min()


def test_what_is_proved_is_told_as_no_more_than_it_is():
    network, vertices = random_network(4), random_hull(4, 5, spread=3)
    proof = prover_of(network, vertices, gamma=0.9, seconds=0.2).run()
    proof["margin"]["proved"], proof["tau"]["proved"] = 8.42379, 0.092211
    told = sentence(proof, 5, "a")
    assert "at least 8.423 logits" in told
    assert "differ by at most 0.09222 " in told
    proof["result"], proof["share_proved"] = "open", 0.99999
    assert "proved for 99.9 % of the volume" in sentence(proof, 5, "a")


def test_what_is_proved_of_rounding_is_less_than_without():
    network, vertices = random_network(4), random_hull(4, 5, spread=3)
    without, rounded = (
        prover_of(network, vertices, rounding=rounding, seconds=0.2).run()
        for rounding in (False, True)
    )
    assert rounded["margin"]["proved"] < without["margin"]["proved"]
    assert rounded["margin"]["found"] < without["margin"]["found"]
    assert rounded["tau"]["proved"] > without["tau"]["proved"]


def test_features_too_far_apart_refute_a_bound_on_them():
    network, vertices = random_network(4), random_hull(4, 5, spread=20)
    tau = prover_of(network, vertices).run()["tau"]["found"]
    proof = prover_of(network, vertices, gamma=tau / 2).run()
    assert proof["result"] == "refuted"
    assert proof["counterexample"]["tau"] > tau / 2


def test_a_hull_of_one_vertex_is_a_point():
    network, vertices = random_network(4), random_hull(4, 1)
    proof = prover_of(network, vertices, gamma=0.1).run()
    assert (proof["result"], proof["margin"]["cells"]) == ("proved", 1)
    assert proof["margin"]["proved"] == pytest.approx(proof["margin"]["found"])
    assert proof["tau"]["proved"] < 1e-9


def test_work_that_was_stopped_goes_on_where_it_was(tmp_path):
    network, vertices = tent((0.31, 0.27), -0.001), triangle()  # No violation, but a narrow one.
    request = StopRequest()
    request.requested = True
    prover = prover_of(network, vertices, seconds=30)
    with pytest.raises(InterruptedWorkError, match="asked to stop"):
        prover.run(request)
    assert prover.known.cells["margin"].bounded == 1
    for _ in range(100):
        prover.known.save(tmp_path / "known.h5", "f")
        known = Knowledge.load(tmp_path / "known.h5", "f")
        cells = known.cells["margin"].bounded
        prover = prover_of(network, vertices, known, seconds=0.05)
        proof = prover.run()
        assert proof["margin"]["cells"] > cells
        if proof["result"] == "proved":
            return
    pytest.fail("a hundred attempts did not prove it")


def test_a_part_around_the_centre_is_proved_where_the_whole_is_not():
    network = tent((0.9, 0.05), 0.1)
    proof = prover_of(network, triangle(), seconds=0.5).run()
    part = proof["part"]
    assert proof["result"] == "refuted"
    assert 0.2 < part["scale"] < 1
    assert part["share"] == pytest.approx(part["scale"] ** 2)
    assert part["margin"] > 0


def test_the_edges_of_a_hull_are_proved_as_far_as_they_are():
    """The planted class crosses the edges from vertex 1, by 0.05 and 0.07 of their lengths."""
    network = tent((0.98, 0.0), 0.06)
    found = prover_of(network, triangle(), seconds=1).run()["edges"]
    first, second, third = found["shares"]  # 0 to 1, 0 to 2, 1 to 2.
    assert 0.5 <= first <= 0.92
    assert second == 1
    assert 0.5 <= third <= 0.96
    assert found["share_proved"] == pytest.approx((first + second + third) / 3)
    assert found["share_walked"] is None


def test_where_float64_rounds_too_much_edges_are_walked_and_nothing_is_proved(monkeypatch):
    network, vertices = tent((0.9, 0.9), 0.1), triangle()
    prover = prover_of(network, vertices, seconds=20)
    rounds = torch.full((1,), -5.0, dtype=torch.float64)
    monkeypatch.setattr(prover.bounds, "margins", lambda cells, *_: rounds.expand(len(cells)))
    proof = prover.run()
    assert (proof["result"], proof["share_proved"]) == ("open", 0)
    assert (proof["at_centre"], proof["part"]["scale"]) == (-5, 0)
    assert proof["edges"]["share_proved"] == 0
    assert proof["edges"]["shares_walked"] == [1, 1, 1]  # A tent has few pieces.
    assert proof["edges"]["walked_margin"] >= proof["margin"]["found"] - 1e-9
    assert "what float64 may round grows from layer to layer" in proof["sentence"]
    assert "which makes it no proof" in proof["sentence"]


def test_an_edge_of_many_pieces_is_walked_from_a_vertex_without_a_gap(monkeypatch):
    monkeypatch.setattr(edges, "_MOST_PIECES", 12)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = nn.Sequential(
            *(nn.Flatten(), nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU()),
            nn.Linear(40, 3),
        )
    network = CollisionNetwork(
        module, name="many", layer="2", input_size=2, mean=(0.5,), scale=(0.1,)
    )
    bounds = prover_of(network, triangle()).bounds
    found = edges.walk_edges_for(bounds, 60)
    assert found["share_proved"] == 0
    assert 3 < found["pieces"] <= 3 * 12
    pairs = [(0, 1), (0, 2), (1, 2)]
    for pair, share, start in zip(pairs, found["shares_walked"], found["walked_from"], strict=True):
        (other,) = {*pair} - {start}
        places = torch.linspace(0, share, 400, dtype=torch.float64)[:, None, None, None]
        first, last = bounds.vertices[start], bounds.vertices[other]
        least = float(bounds.margin_at(first + places * (last - first)).min())
        assert 0 < share < 1
        assert found["walked_margin"] is not None
        assert least >= found["walked_margin"] - 1e-9


def test_a_network_of_one_class_has_nothing_to_prove():
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3))
    network = CollisionNetwork(
        module, name="one", layer="2", input_size=2, mean=(0.0,), scale=(1.0,)
    )
    network.num_classes = 1
    with pytest.raises(NetworkError, match="one has one class"):
        HullBounds.of(network, triangle(), target_of(network, triangle()), rounding=False)
