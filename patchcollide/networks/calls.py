"""The activations of a network, run by run: a module may run several times, or be no module at all.

A run is named as ``torchvision.models.feature_extraction`` names it: ``layer4.1.relu`` the first
time, ``layer4.1.relu_1`` the second, and ``layer4.1.relu`` also where that is ``F.relu`` in
``layer4.1``. Other than there, a module keeps its own name whatever that ends in.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from torch import nn
from torch.overrides import TorchFunctionMode

from patchcollide.networks.curves import curve_of
from patchcollide.networks.functions import activation_of
from patchcollide.networks.hooks import Enter, Leave, first_of, hooked, with_first
from patchcollide.shapes import Tensor

Site: TypeAlias = tuple[str, str]
"""The own name of a module, and of the function in it; the latter is empty for the module."""


@dataclass(frozen=True)
class Call:
    """One run of an activation in a forward pass.

    Attributes:
        name: What it is called.
        part: The own name of the module that runs; of a function, of the innermost around it.
        activation: The module, or one that does what the function does.
        function: The function's name; empty of a module.
        number: How many runs of the same came before it in a pass.
        shape: Of what goes in, without the batch; empty where no pass was watched.
        by_image: Whether what goes in has a row for each image; parts of images may stand in their
            place, such as the patches of a MobileViT.
    """

    name: str
    part: str
    activation: nn.Module = field(compare=False, repr=False)
    function: str = ""
    number: int = 0
    shape: tuple[int, ...] = field(default=(), compare=False)
    by_image: bool = field(default=True, compare=False)

    @property
    def site(self) -> Site:
        """What runs, however often."""
        return self.part, self.function

    @property
    def kind(self) -> str:
        """The class of the module, or the function."""
        return f"{self.function}()" if self.function else type(self.activation).__name__


class Hooks(NamedTuple):
    """What is shown what goes into a run, and what comes out of it; see :func:`hooked`."""

    entering: Enter | None = None
    leaving: Leave | None = None


@contextlib.contextmanager
def calls_hooked(module: nn.Module, hooks: Mapping[Call, Hooks]) -> Iterator[None]:
    """Shows what goes into runs of activations and comes out, in a pass.

    Args:
        module: The network, of which the block has one pass.
        hooks: What is shown which runs.
    """
    by_run = {(call.site, call.number): each for call, each in hooks.items()}
    runs = _Runs()

    def find(site: Site, _: Any) -> Hooks | None:
        return by_run.get((site, runs.next(site)))

    with contextlib.ExitStack() as stack:
        for part in {part: None for (part, function), _ in by_run if not function}:
            stack.enter_context(_part_hooked(module.get_submodule(part), partial(find, (part, ""))))
        if any(function for (_, function), _ in by_run):
            stack.enter_context(_functions_hooked(module, find))
        yield


def list_calls(module: nn.Module, run: Callable[[], None]) -> list[Call]:
    """Returns all runs of activations, of known ones, in the order of a pass.

    Left out are those that do not depend on the image, as far as gradients say.

    Args:
        module: The network.
        run: Runs it once, on one image that asks for gradients.
    """
    seen: list[tuple[Call, bool]] = []
    runs = _Runs()

    def note(site: Site, activation: nn.Module, value: Any) -> None:
        if isinstance(value, Tensor):
            part, function = site
            shape = tuple(value.shape[1:])
            by_image = value.shape[:1] == (1,)
            call = Call("", part, activation, function, runs.next(site), shape, by_image)
            seen.append((call, value.requires_grad))

    def of_function(site: Site, activation: nn.Module) -> Hooks:
        return Hooks(partial(note, site, activation))

    with contextlib.ExitStack() as stack:
        for name, part in module.named_modules():
            if name and is_activation(part):
                stack.enter_context(hooked(part, partial(note, (name, ""), part)))
        stack.enter_context(_functions_hooked(module, of_function))
        run()
    own = {name for name, _ in module.named_modules()}
    names = _named((call for call, _ in seen), own)
    return [
        replace(call, name=name)
        for (call, depends), name in zip(seen, names, strict=True)
        if depends
    ]


def is_activation(part: nn.Module) -> bool:
    """Says whether a module is an activation that is known."""
    return type(part) is nn.Threshold or curve_of(part) is not None


def _named(calls: Iterable[Call], own: set[str]) -> list[str]:
    names: list[str] = []
    taken = set(own)
    for call in calls:
        base = ".".join(filter(None, call.site))
        name = base
        if call.number or (call.function and base in taken):
            numbered = (f"{base}_{number}" for number in range(1, len(taken) + 2))
            name = next(other for other in numbered if other not in taken)
        taken.add(name)
        names.append(name)
    return names


class _Runs:
    """Counts runs in a pass."""

    def __init__(self) -> None:
        self._counts: Counter[Site] = Counter()

    def next(self, site: Site) -> int:
        """Returns how many runs came before the one that begins now."""
        self._counts[site] += 1
        return self._counts[site] - 1


@contextlib.contextmanager
def _part_hooked(part: nn.Module, find: Callable[[Any], Hooks | None]) -> Iterator[None]:
    """Asks at each run of a part what is shown it."""
    under_way: list[Hooks | None] = []

    def enter(value: Any) -> Any:
        under_way.append(find(value))
        hooks = under_way[-1]
        return hooks.entering(value) if hooks and hooks.entering else None

    def leave(value: Any, output: Any) -> Any:
        hooks = under_way.pop()
        return hooks.leaving(value, output) if hooks and hooks.leaving else None

    with hooked(part, enter, leave):
        yield


class _Places:
    """Which modules are running, the innermost last."""

    def __init__(self, module: nn.Module) -> None:
        # What an activation calls is not seen: it is one itself.
        self._names = {
            part: None if is_activation(part) else name for name, part in module.named_modules()
        }
        self._running: list[nn.Module] = []

    @property
    def innermost(self) -> str | None:
        """The own name of what is running; None within an activation, and within nothing."""
        return self._names[self._running[-1]] if self._running else None

    @contextlib.contextmanager
    def followed(self) -> Iterator[None]:
        """Notes which parts run, by hooks that are gone after the block."""

        def enter(part: nn.Module, *_: Any) -> None:
            self._running.append(part)

        def leave(*_: Any) -> None:
            self._running.pop()

        with contextlib.ExitStack() as hooks:
            for part in self._names:
                hooks.enter_context(part.register_forward_pre_hook(enter, prepend=True))
                # Also where it fails, which the network may catch.
                hooks.enter_context(part.register_forward_hook(leave, always_call=True))
            yield


class _Functions(TorchFunctionMode):
    """Asks at each activation function what is shown it."""

    def __init__(self, places: _Places, find: Callable[[Site, nn.Module], Hooks | None]) -> None:
        super().__init__()
        self._places, self._find = places, find

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs a function; whatever it calls itself is not seen."""
        del types
        kwargs = kwargs or {}
        activation = activation_of(function, args, kwargs)
        place = self._places.innermost if activation else None
        if activation is None or place is None:
            return function(*args, **kwargs)
        hooks = self._find((place, function.__name__), activation)
        value = first_of(args, kwargs)
        changed = hooks.entering(value) if hooks and hooks.entering else None
        if changed is not None:
            args, kwargs = with_first(changed, args, kwargs)
        output = function(*args, **kwargs)
        changed = hooks.leaving(value, output) if hooks and hooks.leaving else None
        return output if changed is None else changed


@contextlib.contextmanager
def _functions_hooked(
    module: nn.Module, find: Callable[[Site, nn.Module], Hooks | None]
) -> Iterator[None]:
    places = _Places(module)
    with places.followed(), _Functions(places, find):
        yield


def names_of(calls: Sequence[Call], site: Site) -> list[str]:
    """Returns the names of all runs of one activation."""
    return [call.name for call in calls if call.site == site]
