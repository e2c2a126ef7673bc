"""The explorer as a person starts it: a real server in a process of its own."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from patchcollide.cli.framework import app
from patchcollide.explorer.serving import _listener
from tests.helpers.exploring import CENTRE, picture
from tests.helpers.presence import present


class Server:
    """A running explorer."""

    def __init__(self, process, address):
        self.process, self.address = process, address
        parts = urlsplit(address)
        self.host, self.port, self.path = parts.hostname, parts.port, parts.path

    def ask(self, method, path, body=None, headers=None, host=None):
        """Returns status and body; each question has a connection of its own."""
        with contextlib.closing(http.client.HTTPConnection(host or self.host, self.port)) as http_:
            http_.request(method, path, body, headers or {})
            answer = http_.getresponse()
            return answer.status, answer.read()

    def point(self, weights):
        body = json.dumps({"weights": weights})
        status, answer = self.ask("POST", f"{self.path}api/point", body)
        return status, json.loads(answer)

    def stop(self, number):
        self.process.send_signal(number)
        printed, said = self.process.communicate(timeout=120)
        return self.process.returncode, printed, said


@pytest.fixture
def start(explored_run, tmp_path):
    servers = []

    def start(*words):
        # Its own folder for uploads shows what it leaves behind.
        environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-m", "patchcollide", "explore", explored_run, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        servers.append(process)
        return Server(process, present(process.stdout).readline().strip())

    yield start
    for process in servers:
        process.kill()
        process.communicate()


def start_at_a_port_of_choice(start):
    """Starts at a port that was free a moment ago; tries others if somebody was quicker."""
    for _ in range(20):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = start("--port", str(port))
        if server.address:
            return port, server
    pytest.fail("no port stayed free")


def test_a_server_answers_this_machine_alone_and_ends_quietly(start, tmp_path):
    port, server = start_at_a_port_of_choice(start)
    assert re.fullmatch(rf"http://127\.0\.0\.1:{port}/[\w-]{{32}}/", server.address)
    assert server.ask("GET", server.path)[0] == 200
    assert server.ask("GET", "/")[0] == 404
    assert server.ask("GET", server.path, headers={"Host": "evil.example"})[0] == 400
    assert server.ask("GET", server.path, headers={"Origin": "http://evil.example"})[0] == 403
    with pytest.raises(OSError, match="refused"):
        # All of 127.0.0.0/8 is this machine; only one address of it is listened at.
        server.ask("GET", server.path, host="127.0.0.2")

    points = [[share / 40, 0.5 - share / 40, 0.5] for share in range(20)]
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(server.point, points))
    assert [status for status, _ in answers] == [200] * 20
    assert all(len(answer["top"]) == 5 for _, answer in answers)

    assert server.ask("POST", f"{server.path}api/point", "{")[0] == 400
    assert server.ask("POST", f"{server.path}api/uploads", picture())[0] == 201
    parts = iter([bytes(1_000_000)] * 2)
    assert server.ask("POST", f"{server.path}api/compare", parts)[0] == 400
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) == 1
    assert server.point(CENTRE)[0] == 200

    code, printed, said = server.stop(signal.SIGINT)
    assert (code, printed, said) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_sigterm_ends_a_server_that_makes_a_collision_and_leaves_nothing(
    start, explored_run, tmp_path
):
    server = start()
    names = []
    for seed in (1, 2):
        _, answer = server.ask("POST", f"{server.path}api/uploads", picture(seed))
        names.append(json.loads(answer)["id"])
    body = json.dumps({"source": names[0], "target": names[1]})
    assert server.ask("POST", f"{server.path}api/collisions", body)[0] == 202
    code, _, said = server.stop(signal.SIGTERM)
    assert code == 0
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert not list(explored_run.parent.glob("run-explored-*.partial"))
    for path in explored_run.parent.glob("run-explored-*"):
        path.rename(path.with_name(f"old-{time.monotonic_ns()}"))


def test_answers_are_not_held_back_by_nagles_algorithm():
    async def delayed():
        found = asyncio.get_running_loop().create_future()

        def met(_, writer):
            connection = writer.get_extra_info("socket")
            found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0)
            writer.close()

        listener = _listener(0)
        async with await asyncio.start_server(met, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            writer.close()
            return await found

    assert not asyncio.run(delayed())


def explore(*words):
    result = CliRunner().invoke(app, ["explore", *map(str, words)])
    return result.exit_code, " ".join(result.stderr.split())


def test_a_port_that_is_taken_is_told_of(explored_run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, said = explore(explored_run, "--port", port)
    assert code == 2
    assert f"Port {port} of 127.0.0.1 cannot be used (Address already in use)" in said


def test_a_folder_without_a_run_is_told_of(tmp_path):
    code, said = explore(tmp_path)
    assert code == 2
    assert "is not a run: it holds no config.json" in said


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_a_port_that_is_none_is_refused(port, explored_run):
    assert explore(explored_run, "--port", port)[0] == 2


def test_a_run_that_is_no_longer_whole_is_told_of(explored_run, tmp_path):
    run = Path(tmp_path / "run")
    run.mkdir()
    for path in explored_run.iterdir():
        if path.name != "vertex-1.png":
            (run / path.name).write_bytes(path.read_bytes())
    code, said = explore(run)
    assert code == 2
    assert "is no longer whole: it lacks vertex-1.png" in said
