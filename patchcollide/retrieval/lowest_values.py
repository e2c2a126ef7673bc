"""The lowest values of each column of a table that are within its limit: where they are."""

import numpy as np
import torch

from patchcollide.shapes import Bool, Int32, Int64, Tensor

_COLUMNS_AT_ONCE = 16
_SPARE = 8


def everything(rows: torch.Tensor) -> Int64[Tensor, "rows"]:
    """Returns the places of all rows."""
    return torch.arange(len(rows), device=rows.device)


def lowest_places(
    values: Int32[Tensor, "n m"], limits: Int32[Tensor, "m"], k: int
) -> tuple[Int64[Tensor, "some"], Int64[Tensor, "some"]]:
    """Returns rows and columns of values within their column's limit, at least the ``k`` lowest.

    There are never more than eight times ``k`` a column, whatever the images: where there would be,
    just the ``k`` lowest are taken, of equal ones the first. To sort fewer costs more than to keep.
    """
    within = _within(values, limits)
    if _count(within) > _SPARE * k * len(limits):
        # So many that even their places would take much memory.
        return _lowest_of_columns(values, limits, k, everything(limits))
    row, column = _true_places(within)
    crowded = torch.bincount(column, minlength=len(limits)) > _SPARE * k
    if not bool(crowded.any()):
        return row, column
    others = ~crowded[column]
    lowest = _lowest_of_columns(values, limits, k, crowded.nonzero().flatten())
    return torch.cat([row[others], lowest[0]]), torch.cat([column[others], lowest[1]])


def _lowest_of_columns(
    values: Int32[Tensor, "n m"],
    limits: Int32[Tensor, "m"],
    k: int,
    columns: Int64[Tensor, "some"],
) -> tuple[Int64[Tensor, "places"], Int64[Tensor, "places"]]:
    places = []
    for few in torch.split(columns, _COLUMNS_AT_ONCE):
        # No two of these are equal, and they are ordered as values are, ties by row.
        keys = values[:, few].T.long() * len(values) + everything(values)
        row = _lowest(keys, min(k, len(values))) % len(values)
        column = few[:, None].expand_as(row)
        within = values[row, column] <= limits[column]
        places.append((row[within], column[within]))
    rows, of_columns = zip(*places, strict=True)
    return torch.cat(rows), torch.cat(of_columns)


def _lowest(keys: Int64[Tensor, "m n"], k: int) -> Int64[Tensor, "m k"]:
    if keys.is_cuda:
        return keys.topk(k, dim=1, largest=False).values
    # NumPy takes a third of the time.
    return torch.from_numpy(np.partition(keys.numpy(), k - 1, axis=1)[:, :k])


def _within(values: Int32[Tensor, "n m"], limits: Int32[Tensor, "m"]) -> Bool[Tensor, "n m"]:
    if values.is_cuda:
        return values <= limits
    # NumPy takes a fifth of the time.
    return torch.from_numpy(np.less_equal(values.numpy(), limits.numpy()))


def _count(mask: Bool[Tensor, "n m"]) -> int:
    return int(mask.sum() if mask.is_cuda else np.count_nonzero(mask.numpy()))


def _true_places(mask: Bool[Tensor, "n m"]) -> tuple[Int64[Tensor, "k"], Int64[Tensor, "k"]]:
    if mask.is_cuda:
        row, column = mask.nonzero().T
        return row, column
    # Where few are true NumPy finds them ten times faster.
    places = torch.from_numpy(np.flatnonzero(mask.numpy()))
    return places // mask.shape[1], places % mask.shape[1]
