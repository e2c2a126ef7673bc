"""What a page may ask for, and the sentences about what it may not."""

import json
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import torch

from patchcollide.shapes import Float64, Tensor

MAX_JSON_BYTES = 64 << 10
MAX_IMAGE_BYTES = 20_000_000
SUM_TOLERANCE = 1e-6


class RequestError(Exception):
    """A request that cannot be answered.

    Attributes:
        status: The HTTP status: 4xx.
        sentence: What is wrong with it.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


async def read_body(
    chunks: AsyncIterator[bytes], announced: str | None, max_bytes: int, what: str
) -> bytes:
    """Reads a request's body, no further than it may be long.

    Args:
        chunks: The body, part by part.
        announced: The Content-Length, if there is one; it is believed only where it is too large.
        max_bytes: The most to read.
        what: What the body is, for the sentence.

    Raises:
        RequestError: If it is longer, or empty.
    """
    if announced is not None and announced.isdecimal() and int(announced[:20]) > max_bytes:
        raise _too_long(what, max_bytes)
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise _too_long(what, max_bytes)
    if not body:
        raise RequestError(400, f"The request should hold {what}, but it is empty.")
    return bytes(body)


def _too_long(what: str, max_bytes: int) -> RequestError:
    return RequestError(
        413, f"The request should hold {what} of at most {max_bytes} bytes, but holds more."
    )


def parse_object(body: bytes, *keys: str) -> dict[str, Any]:
    """Reads a JSON object that has some keys.

    Raises:
        RequestError: If it is no such object; NaN and infinity are no JSON.
    """
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"The request should be JSON, but it is not: {error}.") from error
    if not isinstance(value, dict) or (missing := set(keys) - value.keys()):
        found = type(value).__name__ if not isinstance(value, dict) else f"no {missing.pop()!r}"
        names = " and ".join(f'"{key}"' for key in keys)
        raise RequestError(
            400, f"The request should be a JSON object with {names}, but has {found}."
        )
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def parse_weights(value: Any, num_vertices: int) -> Float64[Tensor, "vertices"]:
    """Reads the weights of a convex combination.

    Args:
        value: A list of numbers, or their text with commas between.
        num_vertices: How many there must be.

    Returns:
        Weights that add up to one within :data:`SUM_TOLERANCE`.

    Raises:
        RequestError: If they are too few or too many, not finite, negative, or of another sum.
    """
    given = value.split(",", num_vertices) if isinstance(value, str) else value
    if not isinstance(given, list):
        kind = type(value).__name__
        raise RequestError(400, f"The weights should be a list of numbers, but are a {kind}.")
    if len(given) != num_vertices:
        # Text was cut no further than needed.
        found = "more" if isinstance(value, str) and len(given) > num_vertices else str(len(given))
        raise RequestError(400, f"There should be {num_vertices} weights, but there are {found}.")
    weights = torch.tensor([_as_number(part) for part in given], dtype=torch.float64)
    if not weights.isfinite().all():
        raise RequestError(400, "The weights should be finite numbers.")
    if weights.min() < 0:
        raise RequestError(
            400, f"No weight should be negative, but one is {float(weights.min()):.6g}."
        )
    if abs(float(weights.sum()) - 1) > SUM_TOLERANCE:
        raise RequestError(
            400,
            f"The weights should add up to 1 within {SUM_TOLERANCE:g}, but add up to "
            f"{float(weights.sum()):.6g}.",
        )
    return weights


def _as_number(part: Any) -> float:
    try:
        # Of booleans, which Python takes for numbers, nobody means one.
        if isinstance(part, int | float | str) and not isinstance(part, bool):
            return float(part)
    except (ValueError, OverflowError):
        pass
    raise RequestError(400, "The weights should be finite numbers, but one is none.")
