"""A client of the explorer, as its page is one."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from patchcollide.explorer.app import make_app
from patchcollide.explorer.session import Session

TOKEN = "a-token"  # noqa: S105
HOST = "127.0.0.1:8123"
CENTRE = [0.25, 0.25, 0.5]


class Client:
    """Asks at ``/TOKEN/...``; what it is answered must carry the headers of safety."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.http = TestClient(make_app(session, TOKEN), base_url=f"http://{HOST}")

    def __call__(self, method: str, path: str, **options):
        answer = self.http.request(method, f"/{TOKEN}/{path}", **options)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        return answer

    def get(self, path: str, **options):
        return self("GET", path, **options)

    def post(self, path: str, **options):
        return self("POST", path, **options)

    def point(self, weights, path="api/point"):
        return self.post(path, json={"weights": weights})

    def upload(self, data: bytes) -> str:
        return str(self.post("api/uploads", content=data).json()["id"])

    def refused(self, status: int, method: str, path: str, **options) -> str:
        """Asks what must be refused; returns the sentence."""
        answer = self(method, path, **options)
        assert answer.status_code == status, answer.text
        assert answer.json().keys() == {"error"}
        return str(answer.json()["error"])


@contextlib.contextmanager
def client_of(run: Path) -> Iterator[Client]:
    with contextlib.closing(Session(run)) as session:
        yield Client(session)


def picture(seed: int = 0, *, side: int = 40, kind: str = "PNG") -> bytes:
    """A file's bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side + 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind)
    return file.getvalue()
