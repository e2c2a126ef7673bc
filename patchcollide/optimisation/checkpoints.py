"""The state of a descent in a file, so that it can go on exactly where it stopped."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from patchcollide.errors import RunError
from patchcollide.evaluation.summary import Ending
from patchcollide.io.hdf5 import open_hdf5, write_hdf5
from patchcollide.io.seals import is_damaged
from patchcollide.shapes import Tensor

ENCODING = "patchcollide-checkpoint"
VERSION = "2"

_BEST = "best"

# What the optimisers keep for each parameter, beside Adam's count of steps.
_KEPT: dict[type[torch.optim.Optimizer], tuple[str, ...]] = {
    torch.optim.Adam: ("exp_avg", "exp_avg_sq"),
    torch.optim.SGD: ("momentum_buffer",),
}


@dataclass
class DescentState:
    """How far a descent has come.

    Attributes:
        step: Steps done.
        history: One row a step: the terms of the loss and, at checks, the validation.
        stopped_because: Why it ended; empty while it goes on.
        weights: Those that the objective has changed, by name.
        kept: The best parameters so far, where a descent ends with these.
    """

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    stopped_because: str = ""
    weights: dict[str, float] = field(default_factory=dict)
    kept: Tensor | None = None

    @property
    def end(self) -> Ending:
        """How it ended, as runs keep it."""
        return {"steps": self.step, "stopped_because": self.stopped_because}

    def to_json(self) -> str:
        """Returns the state as one object, the weights beside the rest."""
        state = {
            "step": self.step,
            **self.weights,
            "history": self.history,
            "stopped_because": self.stopped_because,
        }
        return json.dumps(state, allow_nan=False)

    @classmethod
    def of_json(cls, text: str) -> "DescentState":
        """Returns the state that a file holds; errors as a wrong text causes them."""
        state = json.loads(text)
        known = {name: state.pop(name) for name in ("step", "history", "stopped_because")}
        return cls(**known, weights=state)


@dataclass(frozen=True)
class Checkpoint:
    """A file for the parameters, the optimiser's averages, the random generator and the history.

    Attributes:
        path: The file.
        fingerprint: Of the run it belongs to; a file with another one is refused.
    """

    path: Path
    fingerprint: str

    def save(
        self,
        parameter: Tensor,
        optimiser: torch.optim.Optimizer,
        generator: torch.Generator,
        state: DescentState,
    ) -> None:
        """Writes the state after a step, whole or not at all."""
        averages = optimiser.state[parameter]
        write_hdf5(
            self.path,
            encoding=ENCODING,
            version=VERSION,
            datasets={
                "parameter": parameter.detach().cpu().numpy(),
                **({} if state.kept is None else {_BEST: state.kept.cpu().numpy()}),
                **{name: averages[name].cpu().numpy() for name in _KEPT[type(optimiser)]},
                "generator": generator.get_state().numpy(),
                "state": [state.to_json()],
            },
            attributes={
                "fingerprint": self.fingerprint,
                "optimiser_step": float(averages.get("step", 0)),
                **({} if state.kept is None else {_BEST: 1}),
            },
        )

    def load(
        self, parameter: Tensor, optimiser: torch.optim.Optimizer, generator: torch.Generator
    ) -> DescentState | None:
        """Restores a descent into the arguments; returns the rest, or None if there is no file.

        Raises:
            RunError: If the file is damaged or belongs to another run.
        """
        if not self.path.exists():
            return None
        shape = tuple(parameter.shape)
        kept = _KEPT[type(optimiser)]
        if is_damaged(self.path):
            raise RunError(
                f"{self.path} is damaged: it does not hold the bytes that were written. Remove it "
                "to start again."
            )
        with open_hdf5(
            self.path, encoding=ENCODING, version=VERSION, error=RunError, checked=False
        ) as file:
            if file.attribute("fingerprint") != self.fingerprint:
                raise RunError(
                    f"{self.path} is the state of another run. Remove {self.path.parent} to start "
                    "again, or choose another --out."
                )
            values = {
                name: torch.from_numpy(file.array(name, np.float32, shape)).to(parameter.device)
                for name in ("parameter", *kept)
            }
            try:
                generator.set_state(torch.from_numpy(file.array("generator", np.uint8, (None,))))
                optimiser_step = torch.tensor(float(file.attribute("optimiser_step")))
                state = DescentState.of_json(file.strings("state")[0])
                if file.has_attribute(_BEST):
                    best = torch.from_numpy(file.array(_BEST, np.float32, shape))
                    state.kept = best.to(parameter.device)
            except (
                AttributeError,
                IndexError,
                KeyError,
                OSError,
                RuntimeError,
                TypeError,
                ValueError,
            ) as damaged:
                raise RunError(
                    f"{self.path} is damaged ({damaged}). Remove it to start again."
                ) from damaged
        with torch.no_grad():
            parameter.copy_(values["parameter"])
        optimiser.state[parameter] = {name: values[name] for name in kept}
        if isinstance(optimiser, torch.optim.Adam):
            optimiser.state[parameter]["step"] = optimiser_step
        return state
