"""A network as a list of steps, each affine or bent, that bounds can go through either way.

Values have the shapes that one image gives them, with its batch dimension of 1; functions of steps
take them behind another dimension, for many of them at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import torch

from patchcollide.polyhedra.tolerances import EPSILON
from patchcollide.proofs.bends import Bend, Largest
from patchcollide.shapes import Tensor

Function = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Linear:
    """An affine function of one or several values: ``sum of weights * values + offset``.

    Attributes:
        run: The function.
        spread: The same with the absolute values of its weights, and without an offset.
        terms: How many products are added up to one number; 0 where numbers are only copied.
        shapes: Of the values.
        offset_size: What the offset was added up from, in absolute values; None for its own.
        transposed: Its adjoint, where that is known to be faster than what PyTorch's gradients
            give; a tuple, of a function of several values.
    """

    run: Function
    spread: Function
    terms: int
    shapes: tuple[torch.Size, ...]
    offset_size: Tensor | None = None
    transposed: Callable[[Tensor], Tensor | tuple[Tensor, ...]] | None = None

    @property
    def rounding(self) -> float:
        """How far a result in float64 is off, as a share of the sum of the sizes of its terms.

        It is twice what Higham, "Accuracy and Stability of Numerical Algorithms", 2002, Section
        3.1 gives for any order of summation, and covers a few more operations on the way.
        """
        return (self.terms + 8) * EPSILON if self.terms else 0.0

    @cached_property
    def offset(self) -> Tensor:
        """What the function gives of zeros."""
        return self.run(*(torch.zeros(1, *shape, dtype=torch.float64) for shape in self.shapes))[0]

    @cached_property
    def size(self) -> Tensor:
        """The sizes of what was added up to the offset."""
        return self.offset.abs() if self.offset_size is None else self.offset_size

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        """Returns what linear functions of the result are as linear functions of the values.

        Args:
            coefficients: Of the result, a row for each function.
        """
        if self.transposed is not None:
            found = self.transposed(coefficients)
            return found if isinstance(found, tuple) else (found,)
        rows = len(coefficients)
        zeros = [
            torch.zeros(rows, *shape, dtype=torch.float64, requires_grad=True)
            for shape in self.shapes
        ]
        with torch.enable_grad():
            result = self.run(*zeros)
        return torch.autograd.grad(
            result,
            zeros,
            coefficients,
            materialize_grads=True,
            create_graph=coefficients.requires_grad,
        )


@dataclass(frozen=True, eq=False)
class Step:
    """One function of a network; None as operation is the image itself.

    Attributes:
        operation: The function.
        inputs: The numbers of the steps whose results it takes.
        shape: Of its result.
    """

    operation: Linear | Bend | Largest | None
    inputs: tuple[int, ...]
    shape: torch.Size

    @property
    def size(self) -> int:
        """How many numbers the result has."""
        return prod(self.shape)


@dataclass(eq=False)
class Program:
    """Steps in an order in which they can run; the first is the image.

    Attributes:
        steps: All of them.
        outputs: The numbers of those that are asked for, by name.
    """

    steps: list[Step] = field(default_factory=list)
    outputs: dict[str, int] = field(default_factory=dict)

    def add(self, operation: Linear | Bend | Largest | None, inputs: tuple[int, ...]) -> int:
        """Adds a step to a program that is being made, and returns its number."""
        shapes = [self.steps[number].shape for number in inputs]
        if isinstance(operation, Linear):
            shape = operation.offset.shape
        elif isinstance(operation, Largest):
            shape = shapes[0][:-1]
        else:
            shape = shapes[0]
        self.steps.append(Step(operation, inputs, shape))
        return len(self.steps) - 1

    def needed_for(self, *wanted: int) -> list[int]:
        """Returns the numbers of all steps that some depend on, themselves among them, in order."""
        needed = set(wanted)
        for number in range(max(wanted, default=-1), -1, -1):
            if number in needed:
                needed.update(self.steps[number].inputs)
        return sorted(needed)

    def bends(self, *wanted: int) -> Iterator[int]:
        """Yields the steps that some depend on and that are not affine, in order."""
        for number in self.needed_for(*wanted):
            if isinstance(self.steps[number].operation, Bend | Largest):
                yield number

    def straight(self, wanted: int) -> bool:
        """Says whether a step is an affine function of the image."""
        return next(self.bends(wanted), None) is None
