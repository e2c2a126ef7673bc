"""What goes into modules, and comes out of them, during a forward pass.

Hooks are set here and in :mod:`patchcollide.networks.calls` alone, for a block: nothing outlives
it, and others may use the module too.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from torch import nn

Enter: TypeAlias = Callable[[Any], Any]
"""Gets a part's first argument; what it returns, unless None, goes in instead."""

Leave: TypeAlias = Callable[[Any, Any], Any]
"""Gets a part's first argument and its output; what it returns, unless None, comes out instead."""


@contextlib.contextmanager
def hooked(
    part: nn.Module, entering: Enter | None = None, leaving: Leave | None = None
) -> Iterator[None]:
    """Shows what goes into a module and comes out, each time that it runs in the block."""

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: Any) -> Any:
        changed = entering(first_of(args, kwargs)) if entering else None
        return None if changed is None else with_first(changed, args, kwargs)

    def leave(_: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any) -> Any:
        return leaving(first_of(args, kwargs), output) if leaving else None

    with contextlib.ExitStack() as hooks:
        if entering:
            hooks.enter_context(part.register_forward_pre_hook(enter, with_kwargs=True))
        if leaving:
            hooks.enter_context(part.register_forward_hook(leave, with_kwargs=True))
        yield


def first_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns the first argument of a call, by place or by name; None of none."""
    return next(iter((*args, *kwargs.values())), None)


def with_first(
    value: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns arguments with another first one."""
    if args:
        return (value, *args[1:]), kwargs
    return args, kwargs | dict.fromkeys(list(kwargs)[:1], value)
