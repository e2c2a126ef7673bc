"""Modules as TorchScript, wherever their padding happens to lie in memory."""

import warnings
from typing import Any

import torch
from torch import nn


def as_torchscript(module: nn.Module) -> Any:
    """Returns a module as TorchScript.

    PyTorch knows its builtins by their addresses, of some of which nothing is left. What a layer
    keeps at such a place is mistaken for one, as happened in a run of all tests.
    """
    builtins: Any = torch.jit._builtins._get_builtin_table()
    for part in module.modules():
        for kept in vars(part).values():
            if not callable(kept):
                builtins.pop(id(kept), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(module)
