"""What stands between the explorer and every other page and program: a token, origins, headers."""

import json
import logging
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report holds its own style and script. In a sandbox without an origin it can ask the explorer
# for nothing, and nobody else either.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Hardened:
    """Adds the headers of safety to each answer, and turns a defect into a sentence.

    Args:
        app: What answers.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_hardened(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                given = {name.lower() for name, _ in message.get("headers", [])}
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                extra = [pair for pair in added if pair[0] not in given]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        try:
            await self._app(scope, receive, send_hardened)
        except Exception:
            # The path would show the token.
            logger.exception("A request could not be answered: a defect of patchcollide.")
            if begun:
                raise
            sentence = "The explorer has a defect; the terminal it runs in says more."
            await _answer(send_hardened, 500, sentence)


class Gate:
    """Lets in who knows the token, and no page but the explorer's own.

    The token is the first segment of every path. A browser says in Origin which page asks; the
    only good answer is the address that it asks at.

    Args:
        app: What answers; it sees paths without the token.
        token: The secret.
    """

    def __init__(self, app: Application, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        first = scope["path"].split("/", 2)[1] if scope["path"].startswith("/") else ""
        if not secrets.compare_digest(first.encode(errors="replace"), self._token.encode()):
            await _answer(send, 404, "There is nothing here. Use the address that was printed.")
            return
        if not _same_origin(scope):
            await _answer(send, 403, "Another page may not ask the explorer.")
            return
        await self._app({**scope, "root_path": f"/{self._token}"}, receive, send)


def _same_origin(scope: Scope) -> bool:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"")
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    return all(origin.lower() == b"http://" + host.lower() for origin in origins)


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
