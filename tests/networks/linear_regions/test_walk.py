"""Walks against dense sampling, and against restrictions found layer by layer."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from patchcollide.errors import NetworkError
from patchcollide.networks.linear_regions import walk
from patchcollide.networks.linear_regions.points import trace
from patchcollide.networks.linear_regions.walk import RESOLUTION, margins, walk_segment

DOUBLE = torch.float64


def perceptron(sizes, seed, activation=nn.ReLU):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pairs = itertools.pairwise(sizes)
        layers = [part for pair in pairs for part in (nn.Linear(*pair), activation())]
    module = nn.Sequential(*layers[:-1]).double().requires_grad_(False)
    for parameter in module.parameters():
        parameter.mul_(3)
    return module


def ends(size, seed):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(2, size)))


def dense(module, start, stop, target_class, num=20_001):
    places = torch.linspace(0, 1, num, dtype=DOUBLE).reshape(-1, *[1] * start.ndim)
    return margins(module(start + places * (stop - start)), target_class).tolist()


def whole(module, start, stop, target_class, max_pieces=10_000, num_samples=9, **options):
    sampled = dense(module, start, stop, target_class, num_samples)
    return walk_segment(
        module, start, stop, target_class, sampled, max_pieces=max_pieces, **options
    )


def layer_by_layer(module, start, stop):
    """Sotoudeh and Thakur's way: cut the segment at each layer's sign changes, in NumPy.

    Returns the places of all breakpoints with both ends, and the logits there.
    """
    places = np.array([0.0, 1.0])
    values = np.stack([start.numpy(), stop.numpy()])
    for part in module:
        if isinstance(part, nn.Linear):
            values = values @ part.weight.numpy().T + part.bias.numpy()
            continue
        added = []
        for left in range(len(places) - 1):
            before, after = values[left], values[left + 1]
            for unit in np.flatnonzero(before * after < 0):
                share = before[unit] / (before[unit] - after[unit])
                added.append((places[left] + share * (places[left + 1] - places[left]), left))
        cuts = [places, np.array([place for place, _ in added])]
        inner = [
            values[left]
            + (place - places[left])
            / (places[left + 1] - places[left])
            * (values[left + 1] - values[left])
            for place, left in added
        ]
        order = np.argsort(np.concatenate(cuts))
        places = np.concatenate(cuts)[order]
        values = np.maximum(np.concatenate([values, *[row[None] for row in inner]])[order], 0)
    return places, values


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("sizes", [(1, 1, 2), (2, 2, 2), (3, 7, 5, 3), (6, 25, 15, 9, 4)])
def test_breakpoints_and_margin_are_those_found_layer_by_layer(sizes, seed):
    module, (start, stop) = perceptron(sizes, seed), ends(sizes[0], seed)
    places, logits = layer_by_layer(module, start, stop)
    found = whole(module, start, stop, 1)
    assert found.is_complete
    assert found.is_local_minimum
    assert found.share_walked == 1
    walked = [0.0, *(piece.stop for piece in found.pieces)]
    assert walked == pytest.approx(places, abs=1e-10)
    expected = margins(torch.from_numpy(logits), 1)
    assert found.worst_margin == pytest.approx(expected.min().item(), abs=1e-9)
    assert found.worst_at == pytest.approx(places[int(expected.argmin())], abs=1e-10)


def convolutions():
    with torch.random.fork_rng():
        torch.manual_seed(11)
        layers = [nn.Conv2d(2, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU6(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(4, 4, 3, padding=1), nn.LeakyReLU(0.1), nn.AvgPool2d(2)]
        module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3))
    return module.double().eval().requires_grad_(False)


@pytest.mark.parametrize("seed", range(4))
def test_no_sample_is_below_the_worst_margin_of_a_complete_walk(seed):
    module = convolutions()
    start, stop = 5 * ends(2 * 9 * 9, seed).reshape(2, 2, 9, 9)
    found = whole(module, start, stop, 0)
    sampled = dense(module, start, stop, 0)
    assert found.is_complete
    assert len(found.pieces) > 20
    steepest = np.abs(np.diff(sampled)).max()
    assert min(sampled) - steepest - 1e-9 <= found.worst_margin <= min(sampled) + 1e-9
    for piece, place in itertools.product(found.pieces, (0.0, 0.4, 1.0)):
        at = piece.start + place * (piece.stop - piece.start)
        plain = margins(module((start + at * (stop - start))[None]), 0).item()
        assert plain >= min(piece.start_margin, piece.stop_margin) - 1e-9


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_batches_change_nothing(batch_size):
    module, (start, stop) = perceptron((4, 20, 10, 3), 5), ends(4, 5)
    one = whole(module, start, stop, 0)
    other = whole(module, start, stop, 0, batch_size=batch_size)
    assert other.worst_margin == pytest.approx(one.worst_margin, abs=1e-12)
    assert len(other.pieces) == len(one.pieces)


def test_a_segment_without_length_is_one_piece():
    module, (start, _) = perceptron((4, 20, 3), 2), ends(4, 2)
    found = whole(module, start, start, 2)
    (piece,) = found.pieces
    assert (piece.start, piece.stop) == (0, 1)
    assert piece.start_margin == piece.stop_margin == found.worst_margin
    assert found.is_complete


def test_a_segment_on_which_no_unit_turns_is_one_piece():
    module, (start, _) = perceptron((4, 20, 3), 2), ends(4, 2)
    found = whole(module, start, start + 1e-7, 2)
    assert len(found.pieces) == 1
    assert found.is_complete
    plain = margins(module(torch.stack([start, start + 1e-7])), 2)
    assert found.worst_margin == pytest.approx(plain.min().item(), abs=1e-12)


def bent():
    """One input x; logits |x| and 1: the margin of class 0 is smallest at x = 0."""
    module = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    module = module.double().requires_grad_(False)
    for layer, weight, bias in (
        (module[0], [[1.0], [-1.0]], [0.0, 0.0]),
        (module[2], [[1.0, 1.0], [0.0, 0.0]], [0.0, 1.0]),
    ):
        layer.get_parameter("weight").copy_(torch.tensor(weight))
        layer.get_parameter("bias").copy_(torch.tensor(bias))
    return module


@pytest.mark.parametrize(
    ("start", "stop", "at", "margin", "pieces"),
    [
        (-1.0, 3.0, 0.25, -1.0, 2),  # Two units turn at one place, on a sample.
        (-1.0, 0.1, 1 / 1.1, -1.0, 2),  # Off the samples.
        (0.0, 2.0, 0.0, -1.0, 1),  # Begins on the breakpoint.
        (-2.0, 0.0, 1.0, -1.0, 1),  # Ends on it.
        (1.0, 2.0, 0.0, 0.0, 1),
    ],
)
def test_the_minimum_is_found_where_units_turn(start, stop, at, margin, pieces):
    first, second = (torch.tensor([x], dtype=DOUBLE) for x in (start, stop))
    found = whole(bent(), first, second, 0)
    assert found.worst_at == pytest.approx(at, abs=1e-12)
    assert found.worst_margin == pytest.approx(margin, abs=1e-12)
    assert found.is_complete
    assert sum(piece.stop - piece.start > RESOLUTION for piece in found.pieces) == pieces


def test_the_largest_other_class_may_change_within_a_piece():
    # Logits 0, x and 1 - x: the margin of class 0 is -max(x, 1 - x), linear but for x = 1/2.
    module = nn.Linear(1, 3).double().requires_grad_(False)
    module.weight.copy_(torch.tensor([[0.0], [1.0], [-1.0]]))
    module.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    first, second = torch.zeros(1, dtype=DOUBLE), torch.full((1,), 1.5, dtype=DOUBLE)
    found = whole(module, first, second, 0)
    assert len(found.pieces) == 1
    assert (found.worst_at, found.worst_margin) == (1.0, -1.5)


def test_ties_of_a_max_pool_are_walked():
    module = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 2))
    module = module.double().requires_grad_(False)
    module.get_parameter("2.weight").copy_(torch.tensor([[1.0], [0.0]]))
    module.get_parameter("2.bias").copy_(torch.tensor([0.0, 0.0]))
    start = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]], dtype=DOUBLE)
    stop = torch.tensor([[[0.0, 0.5], [0.9, 0.5]]], dtype=DOUBLE)
    found = whole(module, start, stop, 0)
    # The tied pixels fall to 0.5 while another rises to 0.9: they meet at 1 / 1.4.
    assert found.worst_at == pytest.approx(1 / 1.4, abs=1e-12)
    assert found.worst_margin == pytest.approx(0.9 / 1.4, abs=1e-12)
    assert found.is_complete


@pytest.mark.parametrize("max_pieces", [1, 2, 3, 10, 30])
def test_a_walk_that_may_not_go_on_says_how_much_is_left(max_pieces):
    module, (start, stop) = perceptron((6, 60, 40, 4), 3), ends(6, 3)
    complete = whole(module, start, stop, 1)
    found = whole(module, start, stop, 1, max_pieces=max_pieces)
    assert len(complete.pieces) > 50
    assert len(found.pieces) <= max_pieces
    assert not found.is_complete
    lengths = [piece.stop - piece.start for piece in found.pieces]
    assert found.share_walked == pytest.approx(math.fsum(lengths))
    assert 0 < found.share_walked < 1
    assert found.worst_margin >= complete.worst_margin - 1e-9
    known = [margin for p in found.pieces for margin in (p.start_margin, p.stop_margin)]
    assert found.worst_margin == min(known)


@pytest.mark.parametrize("seed", range(8))
def test_a_short_walk_ends_in_a_local_minimum(seed):
    module, (start, stop) = perceptron((6, 80, 60, 4), seed), ends(6, seed)
    found = whole(module, start, stop, 1, max_pieces=25)
    assert found.is_local_minimum
    for nearby in (-1e-6, -1e-8, 1e-8, 1e-6):
        place = min(max(found.worst_at + nearby, 0), 1)
        plain = margins(module((start + place * (stop - start))[None]), 1).item()
        assert plain >= found.worst_margin - 1e-9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), width=st.integers(1, 12))
def test_pieces_join_without_gap_or_overlap(seed, width):
    module, (start, stop) = perceptron((3, width, width, 2), seed), ends(3, seed)
    found = whole(module, start, stop, 0)
    assert found.is_complete
    assert found.pieces[0].start == 0
    assert found.pieces[-1].stop == 1
    for before, after in itertools.pairwise(found.pieces):
        assert 0 <= after.start - before.stop <= RESOLUTION
        assert before.stop_margin == pytest.approx(after.start_margin, abs=1e-6)


def test_a_margin_is_the_logit_minus_the_largest_other_one():
    logits = torch.tensor([[3.0, 5.0, 1.0], [9.0, 2.0, 2.0]])
    assert margins(logits, 0).tolist() == [-2, 7]
    assert margins(logits, 2).tolist() == [-4, -7]


def test_a_network_that_is_another_function_each_time_is_refused():
    class Forgetful(nn.Module):
        passes = 0

        def forward(self, x):
            self.passes += 1
            return x * self.passes

    value = torch.tensor([-1.0, 2.0], dtype=DOUBLE)
    with pytest.raises(NetworkError, match=r"but a plain pass finds -?[0-9.]+: a part"):
        walk_segment(Forgetful(), value, value - 1, 0, [0.0, 0.0], max_pieces=9)


def test_a_walk_of_no_pieces_is_refused():
    with pytest.raises(ValueError, match="at least one piece, but max_pieces = 0"):
        walk_segment(bent(), torch.zeros(1).double(), torch.ones(1).double(), 0, [], max_pieces=0)


def test_places_come_from_no_more_passes_than_needed(monkeypatch):
    module, (start, stop) = perceptron((6, 25, 15, 4), 1), ends(6, 1)
    passed = []
    monkeypatch.setattr(walk, "trace", lambda *args: (passed.append(len(args[1])), trace(*args))[1])
    found = whole(module, start, stop, 1, batch_size=1)
    # Samples may share a piece; every other pass finds a new one.
    assert sum(passed) <= len(found.pieces) + 9


@pytest.mark.parametrize("share", [0.0, 0.9, -1.0])
def test_pieces_with_wrong_slopes_are_found_out(share, monkeypatch):
    module, (start, stop) = perceptron((4, 20, 10, 3), 5), ends(4, 5)

    def lying(*args):
        line = trace(*args)
        return line.to(line.value, share * line.slope)

    monkeypatch.setattr(walk, "trace", lying)
    with pytest.raises(NetworkError, match="but a plain pass finds"):
        whole(module, start, stop, 1)


def test_samples_need_not_be_exact():
    module, (start, stop) = perceptron((4, 20, 10, 3), 5), ends(4, 5)
    sampled = dense(module, start, stop, 1, 33)
    exact = whole(module, start, stop, 1)
    for error in (1e-4, 5.0):
        rough = [margin - error for margin in sampled]
        found = walk_segment(module, start, stop, 1, rough, max_pieces=10_000)
        assert found.worst_margin == pytest.approx(exact.worst_margin, abs=1e-9)


def test_the_callers_modes_change_no_walk():
    module, (start, stop) = perceptron((4, 20, 10, 3), 5), ends(4, 5)
    exact = whole(module, start, stop, 1)
    sampled = dense(module, start, stop, 1, 9)
    with torch.autocast("cpu", torch.bfloat16), torch.enable_grad():
        found = walk_segment(module, start, stop, 1, sampled, max_pieces=10_000)
    assert found == exact
