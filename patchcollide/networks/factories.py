"""Networks that a function of the user's own makes: ``package.module:function``.

Asking for one runs code, so it is done only for names that the user typed: on the command line, or
in a program. Names in files of settings and in folders of runs, which others may have written, are
not enough.
"""

import difflib
import os
import pkgutil
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from patchcollide.errors import NetworkError

_asked_for: set[str] = set()


def is_factory(name: str) -> bool:
    """Says whether a network's name is that of a function."""
    module, colon, function = name.partition(":")
    parts = [*module.split("."), *function.split(".")]
    return bool(colon) and all(part.isidentifier() for part in parts)


def ask_for(name: str) -> None:
    """Takes note that the user typed a name, so that the code it names may be run."""
    _asked_for.add(name)


def build_by_factory(name: str, seed: int) -> nn.Module:
    """Returns what a function makes, called without arguments.

    Args:
        name: ``package.module:function``; modules are also looked for in the current folder.
        seed: Of PyTorch's generator while it runs; the global one is left as it is.

    Raises:
        NetworkError: If the user did not type the name, or there is no such function, or it fails
            or returns something else than a module.
    """
    if name not in _asked_for:
        raise NetworkError(
            f"The network '{name}' is a function, whose code would be run, and its name comes from "
            f"a file. If you trust it, name it yourself: --network {name}, or of a run --run-code "
            f"{name}, or in Python patchcollide.networks.factories.ask_for('{name}')."
        )
    function = _find(name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            module = function()
        except Exception as error:
            raise NetworkError(
                f"The function '{name}' failed: {type(error).__name__}: {error}. It is called "
                "without arguments, and should return a torch.nn.Module."
            ) from error
    if not isinstance(module, nn.Module):
        raise NetworkError(
            f"The function '{name}' should return a torch.nn.Module, but returned a "
            f"{type(module).__name__}. Have it return the module alone, with its weights."
        )
    return module


def _find(name: str) -> Callable[[], Any]:
    here = os.getcwd()  # noqa: PTH109
    # Behind all others, so that no file here takes the place of a library.
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = pkgutil.resolve_name(name)
    except AttributeError as error:
        module, _, function = name.partition(":")
        known = [key for key, value in vars(sys.modules[module]).items() if callable(value)]
        close = difflib.get_close_matches(function, known, n=1)
        guess = f"; did you mean {module}:{close[0]}?" if close else "."
        raise NetworkError(
            f"The module '{module}' has no function '{function}'{guess} Name one that returns a "
            "torch.nn.Module."
        ) from error
    except Exception as error:
        raise NetworkError(
            f"The network '{name}' cannot be imported: {type(error).__name__}: {error}. Expected "
            "is package.module:function, of an installed package or of a file in the current "
            "folder."
        ) from error
    if not callable(found):
        raise NetworkError(
            f"'{name}' should be a function, but is a {type(found).__name__}. Name one that "
            "returns a torch.nn.Module."
        )
    made: Callable[[], Any] = found
    return made
