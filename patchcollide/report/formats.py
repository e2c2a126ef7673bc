"""Numbers as people read them, on the page and in tables."""

import math

NOT_MEASURED = "not measured"
# Keeps a number and its unit on one line.
_SPACE = "\N{NARROW NO-BREAK SPACE}"


def _formatted(value: float | None, form: str) -> str:
    return NOT_MEASURED if value is None or not math.isfinite(value) else format(value, form)


def as_number(value: float | None, digits: int = 0) -> str:
    """Formats a number with so many digits after the point."""
    return _formatted(value, f".{digits}f")


def as_gap(value: float | None) -> str:
    """Formats a number with three digits."""
    return _formatted(value, "#.3g").rstrip(".")


def as_probability(value: float | None) -> str:
    """Formats a probability."""
    return _formatted(value, ".3f")


def as_percent(share: float | None, digits: int = 1) -> str:
    """Formats a share; one short of all is never shown as 100 %, nor one above none as 0 %."""
    if share is None or not math.isfinite(share):
        return NOT_MEASURED
    text = f"{100 * share:.{digits}f}"
    least = 10.0**-digits
    if share < 1 and float(text) == 100:
        text = f"> {100 - least:.{digits}f}"
    elif share > 0 and float(text) == 0:
        text = f"< {least:.{digits}f}"
    elif share in (0, 1):
        text = f"{100 * share:.0f}"
    return f"{text}{_SPACE}%"
