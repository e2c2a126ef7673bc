"""Programs made step by step, and what stands for a tensor meanwhile."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from patchcollide.errors import NetworkError
from patchcollide.proofs.bends import Bend, Largest
from patchcollide.proofs.programs import Function, Linear, Program, Step
from patchcollide.shapes import Tensor


@dataclass(frozen=True)
class Value:
    """What a step gives, in place of a tensor.

    Attributes:
        number: The step's.
        shape: Of the result for one image.
    """

    number: int
    shape: torch.Size


class Builder:
    """Makes a program, step by step, from the image on.

    Args:
        shape: Of the image, with its batch dimension of 1.

    Attributes:
        program: What is made so far.
        image: The first value.
    """

    def __init__(self, shape: torch.Size) -> None:
        self.program = Program([Step(None, (), shape)])
        self.image = Value(0, shape)

    def linear(
        self,
        run: Function,
        *values: Value,
        spread: Function | None = None,
        terms: int = 0,
        offset_size: Tensor | None = None,
        transposed: Function | None = None,
    ) -> Value:
        """Adds an affine step; see :class:`Linear`. Without ``spread`` all weights are positive."""
        shapes = tuple(value.shape for value in values)
        if spread is None:
            spread = functools.partial(_without_offset, run)
        operation = Linear(run, spread, terms, shapes, offset_size, transposed)
        return self._added(operation, *values)

    def bend(self, bend: Bend | Largest, value: Value) -> Value:
        """Adds a step that bends."""
        return self._added(bend, value)

    def _added(self, operation: Linear | Bend | Largest, *values: Value) -> Value:
        number = self.program.add(operation, tuple(value.number for value in values))
        return Value(number, self.program.steps[number].shape)


def _without_offset(run: Function, *values: Tensor) -> Tensor:
    zeros = (torch.zeros_like(value[:1]) for value in values)
    return run(*values) - run(*zeros)


def each(function: Callable[..., Tensor]) -> Function:
    """Returns a function of one image's values as one of many images'."""
    return torch.vmap(function)


def folded(function: Callable[[Tensor], Tensor]) -> Function:
    """Returns the same, of one that takes batches itself, which is faster."""

    def run(x: Tensor) -> Tensor:
        found = function(x.flatten(0, 1))
        return found.reshape(*x.shape[:2], *found.shape[1:])

    return run


def is_value(*arguments: Any) -> bool:
    """Says whether one of some arguments depends on the image."""
    return any(isinstance(argument, Value) for argument in arguments)


def refuse_values(*arguments: Any) -> None:
    """Raises :class:`NetworkError` if arguments that must be constant depend on the image."""
    if is_value(*arguments):
        raise NetworkError("of two values that both depend on the image")
