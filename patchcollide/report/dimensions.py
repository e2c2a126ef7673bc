"""The dimensions of polytopes, layer by layer, as a table of plain text."""

from collections.abc import Mapping, Sequence

from patchcollide.layer_dimensions import LayerDimensions
from patchcollide.proposition import Proposition1

_HEADINGS = ("layer", "units", "d", "|P|", "d - |P|", "dimension", "kernel", "bounded", "inputs")
_UNKNOWN = "-"
_NOTHING = Proposition1(0, 0, 0, 0, False, 0.0)


def dimension_lines(found: Mapping[str, Sequence[LayerDimensions]]) -> list[str]:
    """Returns a table, one line a layer; of several images the mean, the least and the most.

    ``kernel`` says whether the kernel condition holds (see
    :class:`patchcollide.proposition.Proposition1`), and ``inputs`` which values a layer's
    polytope lies among. Why figures are not computed is said in their place.

    Args:
        found: For each layer, what is known of each image.
    """
    known = {layer: _cells(of_images) for layer, of_images in found.items()}
    rows = [_HEADINGS, *((layer, *cells) for layer, (cells, _) in known.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    aligned = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=False)]
            + [row[-1].ljust(widths[-1])]
        )
        for row in rows
    ]
    reasons = ["", *(reason for _, reason in known.values())]
    return [f"{line}  {reason}".rstrip() for line, reason in zip(aligned, reasons, strict=True)]


def _cells(of_images: Sequence[LayerDimensions]) -> tuple[tuple[str, ...], str]:
    found = [one.found or _NOTHING for one in of_images]
    reasons = dict.fromkeys(one.not_computed for one in of_images if one.not_computed)
    kinds = dict.fromkeys(str(one.input_kind) for one in of_images if one.input_kind)
    cells = (
        _numbers([one.units for one in of_images]),
        _numbers([one.dimension_of_inputs for one in of_images]),
        _numbers([one.num_matched for one in of_images]),
        _numbers([one.bound for one in of_images]),
        _numbers([part.dimension for part in found]),
        _answers([part.kernel_within for part in found]),
        _answers([part.bounded for part in found]),
        ", ".join(kinds) or _UNKNOWN,
    )
    return cells, f"not computed: {'; '.join(reasons)}" if reasons else ""


def _numbers(values: Sequence[int | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return _UNKNOWN
    if min(known) == max(known):
        return str(known[0])
    return f"{sum(known) / len(known):.1f} ({min(known)}..{max(known)})"


def _answers(values: Sequence[bool | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return _UNKNOWN
    if all(known) or not any(known):
        return "yes" if known[0] else "no"
    return f"yes for {sum(known)} of {len(known)}"
