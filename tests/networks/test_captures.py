"""Hooks last as long as their block, also where it fails or begins again within itself."""

import pytest
import torch
from torch import nn

from patchcollide.networks.calls import Call
from patchcollide.networks.captures import captured_input
from patchcollide.networks.hooks import hooked


class Named(nn.Module):
    """Gives its part the input by name, beside a second argument."""

    def __init__(self):
        super().__init__()
        self.part = Sum()

    def forward(self, x):
        return self.part(first=x, second=1)


class Sum(nn.Module):
    def forward(self, first, second=0):
        return first + second


def has_hooks(module):
    return any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@pytest.mark.parametrize("module", [nn.Sequential(Sum()), Named()], ids=["by place", "by name"])
def test_what_a_hook_returns_goes_in_and_comes_out_instead(module):
    part = next(part for part in module.modules() if isinstance(part, Sum))
    seen = []
    plain = module(torch.ones(2))
    with hooked(part, lambda x: 10 * x, lambda x, y: seen.append((x, y))):
        found = module(torch.ones(2))
    assert (found - plain).tolist() == [9, 9]
    assert [value.tolist() for value in seen[0]] == [[10, 10], found.tolist()]
    with hooked(part, leaving=lambda x, _: x):
        assert module(torch.ones(2)).tolist() == [1, 1]
    assert not has_hooks(module)
    assert torch.equal(module(torch.ones(2)), plain)


def test_hooks_go_where_the_block_or_a_pass_fails():
    def fail(_):
        raise ValueError("no such input")

    module = nn.Sequential(nn.ReLU())
    with pytest.raises(ValueError, match="no such input"), hooked(module[0], fail):
        module(torch.ones(2))
    with (
        pytest.raises(KeyError, match="else"),
        captured_input(module, Call("0", "0", module[0]), print),
    ):
        raise KeyError("else")
    assert not has_hooks(module)


def test_a_block_within_a_block_of_the_same_part_takes_nothing_from_it():
    outer: list[torch.Tensor] = []
    inner: list[torch.Tensor] = []
    module = nn.Sequential(nn.ReLU(inplace=True))
    call = Call("0", "0", module[0])
    with hooked(module[0], lambda x: outer.append(x.clone())):
        module(torch.tensor([-1.0]))
        with captured_input(module, call, inner.append, and_stop=True):
            module(torch.tensor([-2.0]))
            outer.append(torch.tensor(0.0))  # not reached: the block ends at the part
        module(torch.tensor([-3.0]))
    assert [x.item() for x in outer] == [-1, -2, -3]
    assert [x.item() for x in inner] == [-2]
    assert not has_hooks(module)
