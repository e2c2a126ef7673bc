"""All that lives while an explorer runs: the network, runs, uploads, collisions."""

import asyncio
import base64
import logging
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar

from patchcollide.explorer.faces import parse_face
from patchcollide.explorer.jobs import Job, Jobs
from patchcollide.explorer.points import Description
from patchcollide.explorer.requests import RequestError, parse_weights
from patchcollide.explorer.uploads import Uploads
from patchcollide.explorer.views import RunView
from patchcollide.images.pictures import png_bytes
from patchcollide.proofs.faces import FaceProof
from patchcollide.runs.collide import collide
from patchcollide.runs.folder import Run, open_run
from patchcollide.runs.networks import network_of
from patchcollide.shapes import UInt8, ndarray

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

_MOST_VIEWS = 4


class Compared(Description):
    """What the network makes of a picture, and the picture as the network saw it."""

    picture: str


class Uploaded(TypedDict):
    """A picture that is kept: what it is asked for by, and as the network sees it."""

    id: str
    picture: str


class Session:
    """A run, its network and what people do with them; to be closed.

    The network answers in one thread, which is its lock and its queue, pictures are decoded in
    another, and proofs and collisions are made in a third and a fourth with networks of their own.

    Args:
        folder: A finished run.

    Raises:
        InputError: If there is none, or its network cannot be had.
    """

    def __init__(self, folder: Path) -> None:
        self._run = open_run(folder.resolve())
        self._network = network_of(self._run)
        self._views = {"": RunView(self._run, self._network)}
        network = self._network
        self._uploads = Uploads(self._run.config, network.input_size, network.channels)
        self._jobs = Jobs(self._collide, self._run.folder)
        self._answering = ThreadPoolExecutor(1, "answers")
        self._decoding = ThreadPoolExecutor(1, "pictures")
        self._proving = ThreadPoolExecutor(1, "proofs")

    @property
    def jobs(self) -> Jobs:
        """The collisions that were asked for."""
        return self._jobs

    def close(self) -> None:
        """Cancels what goes on and removes what was uploaded."""
        self._answering.shutdown(wait=False, cancel_futures=True)
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._proving.shutdown(wait=False, cancel_futures=True)
        self._jobs.close()
        self._uploads.close()

    async def view(self, name: str) -> RunView:
        """Returns a run: the explorer's own if ``name`` is empty, or one that a collision made.

        Raises:
            RequestError: If there is none of that name yet.
        """
        if name in self._views:
            return self._views[name]
        return await _done_in(self._answering, self._open_view, name)

    async def point(self, view: RunView, weights: Any) -> Description:
        """Asks the network about a point, given by what should be weights.

        Raises:
            RequestError: If they are none.
        """
        parsed = parse_weights(weights, view.points.num_vertices)
        return await _done_in(self._answering, view.points.answer, parsed)

    async def picture(self, view: RunView, weights: Any) -> bytes:
        """Returns a point as PNG; weights and errors as in :meth:`point`."""
        parsed = parse_weights(weights, view.points.num_vertices)
        return await _done_in(self._decoding, lambda: png_bytes(view.points.image(parsed)))

    async def compare(self, view: RunView, data: bytes) -> Compared:
        """Asks the network about a picture in a file's bytes.

        Raises:
            RequestError: If it is no picture.
        """
        image = await _done_in(self._decoding, self._uploads.fit, data)
        described = await _done_in(self._answering, view.points.describe, image)
        return {**described, "picture": _data_uri(image)}

    async def prove(self, view: RunView, vertices: Any) -> FaceProof:
        """Proves more of an edge or a triangle, given by what should be vertices' numbers.

        Raises:
            RequestError: If they are none.
            NetworkError: If a part of the network has no bounds.
        """
        parsed = parse_face(vertices, view.points.num_vertices)
        return await _done_in(self._proving, view.faces.prove, parsed)

    async def upload(self, data: bytes) -> Uploaded:
        """Keeps a picture for a collision.

        Raises:
            RequestError: If it is none.
        """
        name, image = await _done_in(self._decoding, self._uploads.keep, data)
        return {"id": name, "picture": _data_uri(image)}

    def start_collision(self, source: Any, target: Any) -> Job:
        """Has two uploads collide, with the settings of the run.

        Raises:
            RequestError: If there are no such uploads, or the queue is full.
        """
        if not isinstance(source, str) or not isinstance(target, str):
            raise RequestError(400, "Source and target should be ids of uploads, as text.")
        self._jobs.require_place()
        inputs = self._uploads.new_folder()
        self._uploads.copy(source, inputs / "source")
        self._uploads.copy(target, inputs / "target")
        return self._jobs.submit(inputs)

    def _collide(self, source: Path, target: Path, out: Path) -> None:
        store, images = _place(self._run, "store"), _place(self._run, "images")
        if self._run.inputs.get("store") and store is None:
            logger.warning(
                "%s, the store of the run, is no longer there: pixels vary freely.",
                self._run.inputs["store"],
            )
        collide(self._run.config, source, target, out, store, images=images)

    def _open_view(self, name: str) -> RunView:
        if name in self._views:
            return self._views[name]
        job = self._jobs[name]
        if job.state != "done" or job.folder is None:
            raise RequestError(404, f"The collision is {job.state}; there is no run to show.")
        view = RunView(open_run(job.folder), self._network, root="../../")
        if len(self._views) >= _MOST_VIEWS:
            # The explorer's own run is the first and stays.
            self._views.pop(list(self._views)[1])
        self._views[name] = view
        return view


async def _done_in(
    executor: Executor, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    return await asyncio.wrap_future(executor.submit(work, *args, **kwargs))


def _place(run: Run, name: Literal["store", "images"]) -> Path | None:
    """Returns a folder that a run was made from, if it is still there."""
    given = run.inputs.get(name)
    return Path(given) if given and Path(given).is_dir() else None


def _data_uri(image: UInt8[ndarray, "side side channels"]) -> str:
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode("ascii")
