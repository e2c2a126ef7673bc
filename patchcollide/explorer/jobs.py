"""Collisions that are made while a page waits: one at a time, one more in the queue."""

import itertools
import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from patchcollide.errors import InterruptedWorkError, PatchCollideError
from patchcollide.explorer.requests import RequestError
from patchcollide.io.files import partial_path
from patchcollide.progress import listening

logger = logging.getLogger(__name__)

MAX_WAITING = 1
_PATIENCE_S = 10.0


class JobState(TypedDict):
    """What a page shows of a collision; as :class:`Job`, with None for what is not there."""

    id: str
    state: str
    stage: str
    step: int
    total: int
    cancelling: bool
    folder: str | None
    error: str | None


@dataclass
class Job:
    """A collision that somebody asked for.

    Attributes:
        name: What it is asked for by.
        inputs: A folder with ``source`` and ``target``; it is removed afterwards.
        state: ``queued``, ``running``, ``done``, ``failed`` or ``cancelled``.
        stage: What is being done.
        step: How much of the stage is done.
        total: Of how much.
        folder: The run, when there is one.
        error: Why it failed, in a sentence.
    """

    name: str
    inputs: Path
    state: str = "queued"
    stage: str = ""
    step: int = 0
    total: int = 0
    folder: Path | None = None
    error: str = ""
    cancelling: threading.Event = field(default_factory=threading.Event)

    def described(self) -> JobState:
        """Returns what a page shows of it."""
        return {
            "id": self.name,
            "state": self.state,
            "stage": self.stage,
            "step": self.step,
            "total": self.total,
            "cancelling": self.cancelling.is_set() and self.state == "running",
            "folder": str(self.folder) if self.folder and self.state == "done" else None,
            "error": self.error or None,
        }

    def listen(self, label: str, done: int, total: int) -> None:
        """Takes note of progress; raises :class:`InterruptedWorkError` if the job is cancelled."""
        if self.cancelling.is_set():
            raise InterruptedWorkError("The collision was cancelled.")
        self.stage, self.step, self.total = label, done, total


class Jobs:
    """A queue of collisions and a thread that makes them.

    Args:
        make: Makes a run from source, target and the run's folder, as
            :func:`patchcollide.runs.collide.collide` does.
        beside: The run that new ones go beside: ``RUN-explored-1`` and so on.
    """

    def __init__(self, make: Callable[[Path, Path, Path], object], beside: Path) -> None:
        self._make, self._beside = make, beside
        self._jobs: dict[str, Job] = {}
        self._names = map(str, itertools.count(1))
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="collisions", daemon=True)
        self._thread.start()

    def require_place(self) -> None:
        """Raises :class:`RequestError` if one runs and as many wait as may."""
        waiting = sum(job.state == "queued" for job in self._jobs.values())
        running = any(job.state == "running" for job in self._jobs.values())
        if waiting >= MAX_WAITING + (not running):
            raise RequestError(
                429,
                "One collision is being made and another waits. Cancel one, or wait until the "
                "first is done.",
            )

    def submit(self, inputs: Path) -> Job:
        """Puts a collision of ``inputs/source`` with ``inputs/target`` into the queue.

        Raises:
            RequestError: If the queue is full.
        """
        with self._changed:
            self.require_place()
            job = Job(next(self._names), inputs)
            self._jobs[job.name] = job
            self._changed.notify()
        return job

    def __getitem__(self, name: str) -> Job:
        if name not in self._jobs:
            raise RequestError(404, "There is no such collision.")
        return self._jobs[name]

    def described(self) -> list[JobState]:
        """Returns what a page shows of all, the oldest first."""
        with self._changed:
            return [job.described() for job in self._jobs.values()]

    def cancel(self, name: str) -> Job:
        """Cancels a collision: one that runs stops after its step and leaves nothing behind.

        Raises:
            RequestError: If there is none of that name, or it is over.
        """
        with self._changed:
            job = self[name]
            if job.state not in ("queued", "running"):
                raise RequestError(409, f"The collision is {job.state} already.")
            job.cancelling.set()
            if job.state == "queued":
                self._end(job, "cancelled")
        return job

    def close(self) -> None:
        """Cancels all, and waits some seconds until that is done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            for job in self._jobs.values():
                job.cancelling.set()
        self._thread.join(_PATIENCE_S)
        for job in self._jobs.values():
            if job.state == "running" and job.folder:
                shutil.rmtree(partial_path(job.folder), ignore_errors=True)

    def _work(self) -> None:
        while (found := self._next()) is not None:
            job, folder = found
            state, error = "done", ""
            try:
                with listening(job.listen):
                    self._make(job.inputs / "source", job.inputs / "target", folder)
            except InterruptedWorkError:
                state = "cancelled"
            except PatchCollideError as failure:
                state, error = "failed", _without_place(str(failure), job)
            except Exception:
                logger.exception("A collision could not be made: a defect of patchcollide.")
                state = "failed"
                error = "The explorer has a defect; the terminal it runs in says more."
            if state != "done":
                # What is there was begun by this job: the name was free.
                shutil.rmtree(partial_path(folder), ignore_errors=True)
            with self._changed:
                self._end(job, state, error)

    def _next(self) -> tuple[Job, Path] | None:
        """Waits for a job, marks it as running and says where to; None when all is over."""

        def queued() -> Job | None:
            return next((job for job in self._jobs.values() if job.state == "queued"), None)

        with self._changed:
            self._changed.wait_for(lambda: self._closed or queued())
            job = queued()
            if self._closed or job is None:
                return None
            job.state, job.folder = "running", _free_place(self._beside)
            return job, job.folder

    def _end(self, job: Job, state: str, error: str = "") -> None:
        # Who reads the state takes the rest for done.
        shutil.rmtree(job.inputs, ignore_errors=True)
        job.error = error
        job.state = state


def _free_place(beside: Path) -> Path:
    """Returns the first of ``RUN-explored-1`` and so on that nobody has taken or begun."""
    places = (beside.with_name(f"{beside.name}-explored-{n}") for n in itertools.count(1))
    return next(p for p in places if not p.exists() and not partial_path(p).exists())


def _without_place(sentence: str, job: Job) -> str:
    """Names the pictures by their roles: where they are here means nothing to who sent them."""
    for role in ("source", "target"):
        sentence = sentence.replace(str(job.inputs / role), f"'{role}'")
    return sentence
