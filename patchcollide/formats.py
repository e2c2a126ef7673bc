"""Numbers as people read and write them: bytes, shares, seconds, on pages and in tables."""

import math
import re
from fractions import Fraction

from patchcollide.errors import ConfigError

_UNITS = {"": 1, "B": 1, "kB": 1000, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}

_UNITS |= {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?(?:[eE]\+?\d{1,2})?) ?([a-zA-Z]*)", re.ASCII)

NOT_MEASURED = "not measured"

# Keeps a number and its unit on one line.
_SPACE = "\N{NARROW NO-BREAK SPACE}"

_MANY_TIMES = 10
_MOST_DECIMALS = 4


def parse_size(text: str, name: str = "--memory") -> int:
    """Returns the bytes that ``text`` says, such as ``8GB``, ``6GiB``, ``500MB`` or ``1.5e9``.

    Args:
        text: A number, and a unit of thousands (kB MB GB TB) or of 1024s (KiB MiB GiB TiB).
        name: Of the option, for the message.

    Raises:
        ConfigError: If ``text`` is anything else, or less than a byte.
    """
    found = _SIZE.fullmatch(text)
    if not found or found[2] not in _UNITS or Fraction(found[1]) * _UNITS[found[2]] < 1:
        raise ConfigError(
            f"{name} {text}: expected a number of bytes above 0 with or without a unit "
            f"({' '.join(_UNITS).strip()}), such as 8GB, 500MB, 6GiB or 1.5e9."
        )
    return int(Fraction(found[1]) * _UNITS[found[2]])


def format_size(num_bytes: float) -> str:
    """Returns ``num_bytes`` in three digits and a unit, such as ``19.3GB``, rounded upwards.

    :func:`parse_size` reads it, as no fewer bytes.
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        count = Fraction(num_bytes) / _UNITS[unit]
        if count <= 999 or unit == "TB":
            break
    if unit == "B":
        return f"{math.ceil(count)}B"
    decimals = 2 if count <= Fraction("9.99") else 1 if count <= Fraction("99.9") else 0
    return f"{math.ceil(count * 10**decimals) / 10**decimals:.{decimals}f}{unit}"


def format_seconds(seconds: float) -> str:
    """Returns a duration in about three digits, such as ``0.52 s``, ``38 s`` or ``8.2 min``."""
    for unit, length in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < 90 * length or unit == "h":
            break
    count = seconds / length
    return f"{count:.{0 if count >= 20 else 1 if count >= 1 else 2}f} {unit}"


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


def as_share(share: float | None) -> str:
    """Formats a share in three digits, as :func:`as_percent` does; a large one in times."""
    if share is None or not math.isfinite(share):
        return NOT_MEASURED
    if share >= _MANY_TIMES:
        return f"{as_amount(share)} times"
    places = 2 - math.floor(math.log10(100 * share)) if share > 0 else 0
    return as_percent(share, min(max(places, 0), _MOST_DECIMALS))


def as_amount(value: float | None) -> str:
    """Formats an amount in no more digits than are read: ``33,854``, ``27.5``, ``0.0123``."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return f"{value:,.0f}" if abs(value) >= 999.5 else as_gap(value)
