"""Serves the explorer on this machine alone, until Ctrl-C. The only module with uvicorn."""

import contextlib
import secrets
import signal
import socket
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import uvicorn

from patchcollide.errors import InputError
from patchcollide.explorer.app import make_app
from patchcollide.explorer.session import Session

ADDRESS = "127.0.0.1"
_BACKLOG = 256
_PATIENCE_S = 2


def explore(
    run: Path, announce: Callable[[str], object], *, port: int = 0, browser: bool = False
) -> None:
    """Serves a page that explores a run, and returns when the user stops it.

    Args:
        run: A finished run's folder.
        announce: Is given the page's address when it answers; whoever knows it may use it.
        port: Where to listen; 0 for any that is free.
        browser: Whether to open the address in a browser.

    Raises:
        InputError: If the folder holds no finished run, its network cannot be had, or the port is
            taken.
    """
    with _listener(port) as listener, contextlib.closing(Session(run)) as session:
        token = secrets.token_urlsafe(24)
        address = f"http://{ADDRESS}:{listener.getsockname()[1]}/{token}/"
        server = uvicorn.Server(
            uvicorn.Config(
                make_app(session, token),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                # Every line would show the token.
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_PATIENCE_S,
            )
        )
        listener.listen(_BACKLOG)
        announce(address)
        if browser:
            webbrowser.open(address)
        with _quiet_end():
            server.run([listener])


@contextlib.contextmanager
def _quiet_end() -> Iterator[None]:
    """Takes SIGTERM for Ctrl-C, and Ctrl-C for the end."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        # uvicorn ends in good order, then raises the signals again that it was given.
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _listener(port: int) -> socket.socket:
    # Only with its protocol named does asyncio switch off Nagle's algorithm, which holds answers
    # back by 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((ADDRESS, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"Port {port} of {ADDRESS} cannot be used ({reason}). Choose another --port, or 0 for "
            "any that is free."
        ) from error
    return listener
