"""Discouraging layers whose units are nearly the same: how collinear their hyperplanes are."""

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from patchcollide.errors import NetworkError
from patchcollide.shapes import Float, Tensor

_KINDS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_VALUES_AT_ONCE = 2**24
"""Of a Gram matrix: 64 MB in float32."""


class HyperplaneCollinearity:
    """A penalty on weights: the mean squared cosine between the hyperplanes of a layer's units.

    A unit begins to respond at the hyperplane ``w x + b = 0``. Of ``N`` units with normals ``w``
    scaled to length 1, the rows of ``W_n``, the penalty of a layer is

        ``(||W_n W_n^T||_F^2 - N) / (N (N - 1))``,

    the mean of the squared cosine over all pairs: 0 if all hyperplanes are perpendicular, 1 if all
    are parallel. With more units than inputs it is at least ``(N / d - 1) / (N - 1)``. Of several
    layers it is the mean.

    Units whose weights are all zero have no hyperplane and are left out; of fewer than two others
    the penalty is 0. A convolution's normals are its kernels, whatever its stride; kernels of
    different groups read different channels, so they are perpendicular. The same kernel at two
    places is not compared.

    Args:
        layers: Linear layers and convolutions, at least one.
        biases: Whether to take ``[w, b]`` for the normal: then parallel hyperplanes far apart
            differ, in the unit of the inputs.
        values_at_once: How many values of a Gram matrix to hold, forward and back; above, it is
            computed by blocks of rows, and once more for the gradient.

    Raises:
        NetworkError: If there is no layer, or one of another kind.

    Source:
        Li, Zhang and Malik, "Approximate Feature Collisions in Neural Nets", NeurIPS 2019, whose
        discussion suggests to discourage nearly collinear hyperplanes; the formula is ours.
    """

    def __init__(
        self,
        layers: Iterable[nn.Module],
        *,
        biases: bool = False,
        values_at_once: int = _VALUES_AT_ONCE,
    ) -> None:
        self.layers = tuple(layers)
        self._biases, self._values_at_once = biases, values_at_once
        if not self.layers:
            raise NetworkError(
                "Collinearity is of the hyperplanes of a layer, but no layer is given. Give a "
                "network with a linear layer or a convolution before its last."
            )
        for layer in self.layers:
            if not isinstance(layer, _KINDS):
                raise NetworkError(
                    "Collinearity is of the hyperplanes of linear layers and convolutions, but "
                    f"found a {type(layer).__name__}. Leave it out."
                )

    def __call__(self) -> Float[Tensor, ""]:
        """Returns the penalty of the weights as they are now, differentiable in them."""
        return torch.stack([self._of(layer) for layer in self.layers]).mean()

    def _of(self, layer: nn.Module) -> Float[Tensor, ""]:
        rows = normals(layer, biases=self._biases)
        groups = getattr(layer, "groups", 1)
        return mean_squared_cosine(rows, groups=groups, values_at_once=self._values_at_once)


def hidden_layers(module: nn.Module) -> Sequence[nn.Module]:
    """Returns the linear layers and convolutions of a module but the last, which gives logits."""
    return [part for part in module.modules() if isinstance(part, _KINDS)][:-1]


def normals(layer: nn.Module, *, biases: bool = False) -> Float[Tensor, "units inputs"]:
    """Returns the normal of each unit's hyperplane as a row, of any length.

    Args:
        layer: A linear layer or a convolution; its kernels become rows.
        biases: Whether the bias is the last entry of the row; layers without have none to add.
    """
    rows: Tensor = layer.weight.flatten(1)  # type: ignore[operator]
    if biases and isinstance(layer.bias, Tensor):
        rows = torch.cat([rows, layer.bias[:, None]], dim=1)
    return rows


def mean_squared_cosine(
    rows: Float[Tensor, "units inputs"],
    *,
    groups: int = 1,
    values_at_once: int = _VALUES_AT_ONCE,
) -> Float[Tensor, ""]:
    """Returns the mean squared cosine over all pairs of rows that are not zero.

    Args:
        rows: Of any length.
        groups: Rows fall into so many groups of one size, one after the other; those of different
            groups are perpendicular.
        values_at_once: How many values of a Gram matrix to hold.

    Returns:
        0 to 1 but for rounding, differentiable; 0 of fewer than two rows that are not zero.
    """
    # By the largest value first: squares of tiny weights would vanish.
    largest = rows.detach().abs().amax(dim=1, keepdim=True)
    lengths = (rows / largest.where(largest > 0, 1)).norm(dim=1, keepdim=True) * largest
    lengths = lengths.where(largest > 0, 1)
    num_rows = (largest > 0).sum()
    unit = (rows / lengths).unflatten(0, (groups, -1))
    total = _gram_square(unit, values_at_once)
    pairs = num_rows * (num_rows - 1)
    return torch.where(pairs > 0, (total - num_rows) / pairs.clamp(min=1), total * 0)


def _gram_square(rows: Float[Tensor, "groups n d"], values_at_once: int) -> Float[Tensor, ""]:
    """Returns the sum of squares of ``rows @ rows.T``, or of ``rows.T @ rows``: they are equal."""
    if rows.shape[1] > rows.shape[2]:
        rows = rows.mT
    together = max(1, values_at_once // (rows.shape[0] * rows.shape[1]))
    if together >= rows.shape[1]:
        return _products_square(rows, rows)
    parts = [
        checkpoint(_products_square, block, rows, use_reentrant=False)
        for block in torch.split(rows, together, dim=1)
    ]
    return torch.stack(parts).sum()


def _products_square(block: Tensor, rows: Tensor) -> Tensor:
    return (block @ rows.mT).square().sum()
