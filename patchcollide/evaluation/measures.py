"""Measures of what is found already: one that fails is reported, and takes nothing with it."""

import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from patchcollide.errors import DiskFullError, InterruptedWorkError, PatchCollideError

Measured = TypeVar("Measured")

logger = logging.getLogger(__name__)


def attempt(
    name: str, measure: Callable[[], Measured], missing: dict[str, str] | None
) -> Measured | None:
    """Returns what a measure says; None if it fails, and why is noted.

    Only what can go wrong with a measure is caught: an interruption and a full disk end the work,
    and a defect shows itself.

    Args:
        name: Of the measure, such as ``far_pair``.
        measure: Computes it.
        missing: Takes the reason, a sentence, under the name; None to let the error pass.
    """
    try:
        return measure()
    except (InterruptedWorkError, DiskFullError):
        raise
    except (PatchCollideError, ArithmeticError, np.linalg.LinAlgError, MemoryError) as error:
        if missing is None:
            raise
        missing[name] = str(error) or type(error).__name__
        logger.warning("%s is not measured: %s", name, missing[name])
        return None
