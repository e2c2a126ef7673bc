"""The addresses of the explorer and what is answered at each. The only module with Starlette."""

import asyncio
import logging
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from patchcollide.errors import InputError, PatchCollideError
from patchcollide.explorer.guard import REPORT_POLICY, Gate, Hardened
from patchcollide.explorer.requests import (
    MAX_IMAGE_BYTES,
    MAX_JSON_BYTES,
    RequestError,
    parse_object,
    read_body,
)
from patchcollide.explorer.session import Session
from patchcollide.explorer.views import RunView, read_parts

logger = logging.getLogger(__name__)

HOSTS = ("127.0.0.1", "localhost")


def make_app(session: Session, token: str) -> Starlette:
    """Returns the explorer as an ASGI application.

    Args:
        session: What it shows.
        token: The first segment of every path.
    """
    answers = Answers(session)
    routes = [
        *_view_routes(answers, ""),
        *_view_routes(answers, "/runs/{run}"),
        Route("/static/{name}", answers.part),
        Route("/api/uploads", answers.upload, methods=["POST"]),
        Route("/api/collisions", answers.collisions, methods=["GET", "POST"]),
        Route("/api/collisions/{job}/cancel", answers.cancel, methods=["POST"]),
    ]
    handled = (RequestError, PatchCollideError, HTTPException, ClientDisconnect)
    handlers: Any = dict.fromkeys(handled, _explained)
    middleware = [
        Middleware(Hardened),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS)),
        Middleware(Gate, token=token),
    ]
    return Starlette(routes=routes, middleware=middleware, exception_handlers=handlers)


def _view_routes(answers: "Answers", prefix: str) -> list[Route]:
    """Returns the addresses of one run, or of each that was made here."""
    return [
        Route(f"{prefix}/", answers.page),
        Route(f"{prefix}/report.html", answers.report),
        Route(f"{prefix}/pictures/{{name}}", answers.picture),
        Route(f"{prefix}/point.png", answers.point_picture),
        Route(f"{prefix}/api/point", answers.point, methods=["POST"]),
        Route(f"{prefix}/api/faces", answers.faces, methods=["POST"]),
        Route(f"{prefix}/api/compare", answers.compare, methods=["POST"]),
    ]


class Answers:
    """What is answered at each address.

    Args:
        session: What it shows.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._parts = read_parts()

    async def page(self, request: Request) -> Response:
        """The page that explores a run."""
        return Response((await self._view(request)).page, media_type="text/html")

    async def report(self, request: Request) -> Response:
        """The page of a run."""
        view = await self._view(request)
        headers = {"content-security-policy": REPORT_POLICY}
        return Response(view.report, media_type="text/html", headers=headers)

    async def picture(self, request: Request) -> Response:
        """Source, target or a vertex."""
        png = (await self._view(request)).pictures.get(request.path_params["name"])
        if png is None:
            raise RequestError(404, "The run has no such picture.")
        return Response(png, media_type="image/png")

    async def part(self, request: Request) -> Response:
        """A style or a script of the page."""
        found = self._parts.get(request.path_params["name"])
        if found is None:
            raise RequestError(404, "The page has no such part.")
        return Response(found[0], media_type=found[1])

    async def point_picture(self, request: Request) -> Response:
        """A point as PNG."""
        view = await self._view(request)
        weights = request.query_params.get("weights", "")
        png = await self._session.picture(view, weights)
        return Response(png, media_type="image/png")

    async def point(self, request: Request) -> Response:
        """What the network makes of a point."""
        view = await self._view(request)
        given = parse_object(await _json_body(request), "weights")
        if isinstance(given["weights"], str):
            raise RequestError(400, "The weights should be a list of numbers, but are a str.")
        found = await self._session.point(view, given["weights"])
        return JSONResponse(found)

    async def faces(self, request: Request) -> Response:
        """What is proved of an edge or a triangle."""
        view = await self._view(request)
        given = parse_object(await _json_body(request), "vertices")
        return JSONResponse(await self._session.prove(view, given["vertices"]))

    async def compare(self, request: Request) -> Response:
        """What the network makes of a picture."""
        view = await self._view(request)
        data = await _image_body(request)
        return JSONResponse(await self._session.compare(view, data))

    async def upload(self, request: Request) -> Response:
        """Keeps a picture for a collision."""
        data = await _image_body(request)
        return JSONResponse(await self._session.upload(data), 201)

    async def collisions(self, request: Request) -> Response:
        """All collisions that were asked for; or one more."""
        if request.method != "POST":
            return JSONResponse({"collisions": self._session.jobs.described()})
        given = parse_object(await _json_body(request), "source", "target")
        start = self._session.start_collision
        job = await asyncio.to_thread(start, given["source"], given["target"])
        return JSONResponse(job.described(), 202)

    async def cancel(self, request: Request) -> Response:
        """Cancels a collision."""
        return JSONResponse(self._session.jobs.cancel(request.path_params["job"]).described())

    async def _view(self, request: Request) -> RunView:
        return await self._session.view(request.path_params.get("run", ""))


async def _json_body(request: Request) -> bytes:
    length = request.headers.get("content-length")
    return await read_body(request.stream(), length, MAX_JSON_BYTES, "a JSON object")


async def _image_body(request: Request) -> bytes:
    length = request.headers.get("content-length")
    return await read_body(request.stream(), length, MAX_IMAGE_BYTES, "a picture")


def _error(status: int, sentence: str, headers: Any = None) -> Response:
    return JSONResponse({"error": sentence}, status, headers)


async def _explained(request: Request, error: Exception) -> Response:
    if isinstance(error, RequestError):
        return _error(error.status, error.sentence)
    if isinstance(error, HTTPException):
        known = {
            404: "There is nothing at this address.",
            405: f"This address does not take {request.method}.",
        }
        sentence = known.get(error.status_code, error.detail)
        return _error(error.status_code, sentence, error.headers)
    if isinstance(error, ClientDisconnect):
        return _error(400, "The request ended before it was complete.")
    return _error(400 if isinstance(error, InputError) else 500, str(error))
