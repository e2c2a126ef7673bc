"""Nobody but the explorer's own page gets an answer, and the page can ask nobody else."""

import asyncio
import stat
from pathlib import Path

import pytest

from patchcollide.explorer.requests import RequestError, read_body
from tests.helpers.exploring import CENTRE, HOST, TOKEN, client_of, picture


@pytest.mark.parametrize(
    "path",
    ["/", "/static/style.css", "/api/collisions", "/A-TOKEN/", "/a-toke/", "/a-tokena/",
     "//a-token/", "/x/a-token/", "/%00/", "/\u00e4/", "/a-token", "/../a-token/x"],
)  # fmt: skip
def test_without_the_token_nothing_is_there(path, client):
    answer = client.http.get(path, follow_redirects=False)
    assert answer.status_code == (307 if path == f"/{TOKEN}" else 404)
    if answer.status_code == 404:
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_every_address_needs_the_token(client):
    routes = client.http.app.routes
    assert len(routes) > 12
    for route in routes:
        path = route.path.format(name="style.css", run="1", job="1")
        for method in ("GET", "POST"):
            assert client.http.request(method, path).status_code == 404
            assert client.http.request(method, f"/other{path}").status_code == 404


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8123", "127.0.0.1.evil.example", "10.0.0.1", "[::1]:8123", ""],
)
def test_an_unknown_host_is_refused(host, client):
    for path in (f"/{TOKEN}/", f"/{TOKEN}/api/collisions", "/"):
        answer = client.http.get(path, headers={"host": host})
        assert answer.status_code == 400
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9", "localhost:8123", "LOCALHOST"])
def test_this_machine_is_known_by_its_names(host, client):
    origin = f"http://{host.lower()}"
    answer = client.get("api/collisions", headers={"host": host, "origin": origin})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "", "http://127.0.0.1", "http://127.0.0.1:9999",
     f"https://{HOST}", f"http://{HOST}.evil.example", "http://localhost:8123", f"http://{HOST}/"],
)  # fmt: skip
def test_another_page_is_refused(origin, client):
    for method, path in (("GET", ""), ("GET", "static/style.css"), ("POST", "api/point")):
        sentence = client.refused(403, method, path, headers={"origin": origin})
        assert sentence == "Another page may not ask the explorer."


def test_its_own_page_is_answered(client):
    headers = {"origin": f"http://{HOST}"}
    answer = client.post("api/point", json={"weights": CENTRE}, headers=headers)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_two_origins_must_both_be_its_own(client):
    headers = [("origin", f"http://{HOST}"), ("origin", "http://evil.example")]
    assert client.refused(403, "GET", "", headers=headers)


def test_the_policy_allows_only_its_own_scripts(client):
    policy = client.get("").headers["content-security-policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert directives["connect-src"] == "'self'"
    assert "unsafe" not in policy
    page = client.get("").text
    assert "<script>" not in page
    assert " style=" not in page
    assert " onclick=" not in page


def test_a_report_is_shut_into_a_sandbox(client):
    policy = client.get("report.html").headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "path",
    ["pictures/../config.json", "pictures/..%2fconfig.json", "pictures/config.json",
     "pictures/%2e%2e%2fsummary.json", "static/../explorer/app.py", "static/..%5capp.py",
     "static//etc/passwd", "static/%2fetc%2fpasswd", "runs/1/report.html",
     "runs/..%2f..%2fx/report.html", "runs/%00/report.html", "api/collisions/..%2f1/cancel"],
)  # fmt: skip
def test_no_path_leads_out(path, client):
    answer = client.http.get(f"/{TOKEN}/{path}")
    assert answer.status_code in (404, 405)
    assert answer.json().keys() == {"error"}


def test_uploads_lie_in_a_private_folder_that_goes_away(explored_run):
    with client_of(explored_run) as client:
        client.upload(picture())
        folder = Path(client.session._uploads._folder.name)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert [path.name for path in folder.iterdir()] == ["upload-0"]
        client.post("api/compare", content=picture(1))
        client.post("api/compare", content=b"no picture")
        client.post("api/uploads", content=b"no picture")
        assert len(list(folder.iterdir())) == 1, "what is not kept is removed"
    assert not folder.exists()


def test_of_many_uploads_the_oldest_go(explored_run):
    with client_of(explored_run) as client:
        names = [client.upload(picture(seed)) for seed in range(18)]
        assert len(set(names)) == 18
        folder = Path(client.session._uploads._folder.name)
        assert len(list(folder.iterdir())) == 16
        for name in names[:2]:
            body = {"source": name, "target": names[5]}
            sentence = client.refused(404, "POST", "api/collisions", json=body)
            assert "no such upload, or no longer" in sentence
        assert client.session.jobs.described() == []


class Chunks:
    """A body that comes in parts and counts how many were taken."""

    def __init__(self, count, size=1000):
        self.left, self.size, self.taken = count, size, 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.left:
            raise StopAsyncIteration
        self.left, self.taken = self.left - 1, self.taken + 1
        return bytes(self.size)


@pytest.mark.parametrize("announced", [None, "10", "nonsense", "-5"])
def test_a_long_body_is_not_read_to_its_end(announced):
    chunks = Chunks(10**9)
    with pytest.raises(RequestError, match="a picture of at most 5000 bytes, but holds more"):
        asyncio.run(read_body(chunks, announced, 5000, "a picture"))
    assert chunks.taken == 6


def test_a_body_announced_too_long_is_not_read_at_all():
    chunks = Chunks(3)
    with pytest.raises(RequestError, match="at most 5000 bytes"):
        asyncio.run(read_body(chunks, "9" * 5000, 5000, "a picture"))
    assert chunks.taken == 0


def test_a_body_of_just_the_length_is_read():
    assert len(asyncio.run(read_body(Chunks(5), "5000", 5000, "a picture"))) == 5000


def test_a_long_body_of_no_announced_length_is_refused(client):
    parts = (bytes(1_000_000) for _ in range(21))
    assert "but holds more" in client.refused(413, "POST", "api/compare", content=parts)
