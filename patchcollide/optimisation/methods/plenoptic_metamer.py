"""Metamers by plenoptic: a run's network and target as its model and image.

This module owns plenoptic.
"""

import contextlib
import importlib
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from patchcollide.errors import (
    DivergedError,
    InterruptedWorkError,
    MissingLibraryError,
    TargetError,
)
from patchcollide.images.tensors import as_batch
from patchcollide.networks.network import CollisionNetwork
from patchcollide.optimisation.checkpoints import DescentState
from patchcollide.optimisation.methods.matching import activations_of
from patchcollide.optimisation.methods.problem import Problem
from patchcollide.progress import note, stop_requests, track
from patchcollide.shapes import Float, Tensor

__all__ = ["PlenopticModel", "import_plenoptic", "synthesise"]


def import_plenoptic() -> Any:
    """Returns the module ``plenoptic``; MissingLibraryError if it is not installed."""
    try:
        return importlib.import_module("plenoptic")
    except ImportError as error:
        raise MissingLibraryError(
            f"method = 'plenoptic' needs plenoptic, which cannot be imported ({error}). Install it "
            "with `pip install 'patchcollide[plenoptic]'`, or choose another --method."
        ) from error


class PlenopticModel(nn.Module):
    """A network at its layer, as plenoptic wants a model: for any of its syntheses.

    Its image is the target's, RGB or grey in ``[0, 1]``, ``(1, channels, height, width)``.

    Args:
        network: The network under study; its weights are not parameters of the model.
        match: Whether the model gives what goes into the activation, or what comes out of it.
    """

    def __init__(
        self,
        network: CollisionNetwork,
        match: Literal["pre_activation", "activation"] = "activation",
    ) -> None:
        super().__init__()
        self._read = activations_of(network) if match == "activation" else network.pre_activation
        self.eval()

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch units"]:
        """Returns what is matched, differentiable in the images."""
        return self._read(images)


def synthesise(
    problem: Problem,
) -> tuple[Float[Tensor, "vertices channels height width"], DescentState]:
    """Has plenoptic match all units of the layer, each image from noise of its own.

    What is matched is as for :func:`patchcollide.optimisation.methods.matching.find_metamers`. The
    loss, the penalty on values out of range, the optimiser and the rule that ends it are
    plenoptic's own; images are cut to ``[0, 1]`` at the end.

    Source:
        plenoptic, ``plenoptic.Metamer``; Portilla and Simoncelli, "A Parametric Texture Model Based
        on Joint Statistics of Complex Wavelet Coefficients", IJCV 2000.

    Raises:
        TargetError: If only the target's features are known.
        DivergedError: If the loss is infinite or not a number.
        InterruptedWorkError: If the user stopped it.
    """
    if problem.target.picture is None:
        raise TargetError(
            "method = 'plenoptic' takes the target's image, but only its features were given. Give "
            "--target an image, or choose another --method."
        )
    library, settings = import_plenoptic(), problem.task.optimiser
    starts = problem.parameterisation.images().detach()
    image = as_batch(problem.target.picture[None]).to(starts).repeat(len(starts), 1, 1, 1)
    with _undisturbed(library), stop_requests() as request:
        model = PlenopticModel(problem.network, problem.config.baselines.match)
        metamer = library.Metamer(image, model)
        metamer.setup(initial_image=starts)
        parts = range(0, settings.steps, settings.check_every)
        for first in track(parts, "Synthesising metamers", len(parts)):
            wanted = min(first + settings.check_every, settings.steps)
            try:
                metamer.synthesize(max_iter=wanted - first)
            except ValueError as error:
                raise DivergedError(
                    f"plenoptic gives up within step {wanted}: {error} Choose another --method."
                ) from error
            done = len(metamer.losses) - 1
            note(step=done, loss=float(metamer.losses[-1]))
            if done < wanted:
                break
            if request.requested and done < settings.steps:
                raise InterruptedWorkError(
                    f"Stopped after {done} of {settings.steps} steps. Of plenoptic's metamers "
                    "nothing is kept: give the command again, and they begin anew."
                )
    history = [{"step": float(n), "loss": float(v)} for n, v in enumerate(metamer.losses)]
    state = DescentState(len(history) - 1, history)
    state.stopped_because = (
        "plenoptic's loss changed by less than 0.0001 in 50 steps"
        if state.step < settings.steps
        else "all steps were done"
    )
    return metamer.metamer.detach().clamp(0, 1), state


@contextlib.contextmanager
def _undisturbed(library: Any) -> Iterator[None]:
    """Keeps PyTorch's generator as it is while plenoptic works, and its bars and warnings off."""
    module: Any = sys.modules[library.Metamer.__module__]
    bars = module.tqdm
    with torch.random.fork_rng(enabled=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        module.tqdm = partial(bars, disable=True)
        try:
            yield
        finally:
            module.tqdm = bars
