"""Collisions that a page asks for: a queue of one, progress, cancelling, a run in the end."""

import json
import threading
import time
from pathlib import Path

import pytest

from patchcollide.config_files import load_config
from patchcollide.errors import InterruptedWorkError, NetworkError
from patchcollide.explorer.jobs import Jobs
from patchcollide.explorer.requests import RequestError
from patchcollide.images.pictures import read_png
from patchcollide.progress import listening, track
from patchcollide.runs.collide import collide
from patchcollide.runs.folder import open_run
from tests.helpers.exploring import CENTRE, client_of, picture


class Maker:
    """Makes runs of ten steps, each when it is told to."""

    def __init__(self):
        self.ticks = threading.Semaphore(0)
        self.made = []
        self.error = None

    def __call__(self, source, target, out):
        partial = out.with_name(out.name + ".partial")
        partial.mkdir()
        (partial / "begun").touch()
        for _ in track(range(10), "Moving", 10):
            assert self.ticks.acquire(timeout=120)
            if self.error:
                raise self.error
        self.made.append((source.read_text(), target.read_text()))
        partial.rename(out)


class World:
    def __init__(self, folder):
        self.folder, self.make = folder, Maker()
        self.jobs = Jobs(self.make, folder / "run")

    def submit(self, words="s"):
        inputs = self.folder / f"inputs-{time.monotonic_ns()}"
        inputs.mkdir()
        (inputs / "source").write_text(words)
        (inputs / "target").write_text("t")
        return self.jobs.submit(inputs)

    def wait(self, job, **expected):
        wait_until(lambda: {**job.described(), **expected} == job.described())

    def folders(self):
        return sorted(path.name for path in self.folder.iterdir() if path.name.startswith("run-"))


def wait_until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.make.ticks.release(100)
    world.jobs.close()


def test_a_listener_hears_of_each_item():
    heard = []
    with listening(lambda *told: heard.append(told)):
        assert list(track("abc", "Letters", 3)) == ["a", "b", "c"]
        assert list(track([], "Nothing", 0)) == []
    list(track("abc", "Unheard", 3))
    assert heard == [*(("Letters", done, 3) for done in range(4)), ("Nothing", 0, 0)]


def test_a_listener_of_one_thread_does_not_hear_another():
    heard = []
    with listening(lambda *told: heard.append(told)):
        thread = threading.Thread(target=lambda: list(track("abc", "Elsewhere", 3)))
        thread.start()
        thread.join()
    assert heard == []


def test_what_a_listener_raises_ends_the_work():
    seen = []

    def stop_at_two(_, done, __):
        if done == 2:
            raise InterruptedWorkError("enough")

    with listening(stop_at_two), pytest.raises(InterruptedWorkError, match="enough"):
        seen.extend(item for item in track(iter("abc"), "Letters", 3) if seen.append(item))
    assert seen == ["a", "b"]


def test_a_job_is_told_of_from_its_queue_to_its_run(world):
    job = world.submit("hello")
    world.wait(job, state="running", stage="Moving", step=0, total=10, folder=None)
    world.make.ticks.release(4)
    world.wait(job, state="running", step=4)
    assert world.folders() == ["run-explored-1.partial"]
    world.make.ticks.release(6)
    world.wait(job, state="done", folder=str(world.folder / "run-explored-1"), error=None)
    assert world.make.made == [("hello", "t")]
    assert not job.inputs.exists()


def test_one_runs_one_waits_and_a_third_is_refused(world):
    first = world.submit()
    world.wait(first, state="running")
    second = world.submit()
    with pytest.raises(
        RequestError, match="One collision is being made and another waits"
    ) as caught:
        world.submit()
    assert caught.value.status == 429
    assert [job["state"] for job in world.jobs.described()] == ["running", "queued"]
    world.make.ticks.release(10)
    world.wait(first, state="done")
    world.wait(second, state="running")
    world.submit()
    world.make.ticks.release(20)
    wait_until(lambda: [job["state"] for job in world.jobs.described()] == ["done"] * 3)
    assert world.folders() == [f"run-explored-{number}" for number in (1, 2, 3)]


def test_at_once_no_more_than_two_are_taken(world):
    world.submit()
    world.submit()
    with pytest.raises(RequestError, match="Cancel one, or wait"):
        world.submit()


def test_a_running_job_stops_and_leaves_nothing_behind(world):
    job = world.submit()
    world.make.ticks.release(3)
    world.wait(job, state="running", step=3)
    world.jobs.cancel(job.name)
    assert job.described()["cancelling"]
    world.make.ticks.release(1)
    world.wait(job, state="cancelled", cancelling=False, folder=None)
    assert world.folders() == []
    assert not job.inputs.exists()
    with pytest.raises(RequestError, match=r"is cancelled already\.") as caught:
        world.jobs.cancel(job.name)
    assert caught.value.status == 409


def test_a_waiting_job_is_cancelled_at_once(world):
    first = world.submit()
    world.wait(first, state="running")
    second = world.submit()
    assert world.jobs.cancel(second.name).state == "cancelled"
    third = world.submit()
    world.make.ticks.release(20)
    world.wait(third, state="done", folder=str(world.folder / "run-explored-2"))
    assert len(world.make.made) == 2


@pytest.mark.parametrize(
    ("error", "sentence"),
    [(NetworkError("No such layer."), "No such layer."), (KeyError("inner"), "has a defect")],
)
def test_a_failed_job_says_why_and_the_next_one_runs(error, sentence, world):
    world.make.error = error
    job = world.submit()
    world.make.ticks.release(1)
    wait_until(lambda: job.state == "failed")
    assert sentence in job.error
    assert "inner" not in job.error
    assert world.folders() == []
    world.make.error = None
    again = world.submit()
    world.make.ticks.release(10)
    world.wait(again, state="done")


def test_a_sentence_names_the_pictures_by_their_roles(world):
    job = world.submit()
    world.make.error = NetworkError(f"{job.inputs / 'source'} is odd, {job.inputs / 'target'} too.")
    world.make.ticks.release(1)
    world.wait(job, state="failed", error="'source' is odd, 'target' too.")


def test_a_folder_that_is_taken_is_left_alone(world):
    (world.folder / "run-explored-1").mkdir()
    (world.folder / "run-explored-2.partial").mkdir()
    job = world.submit()
    world.make.ticks.release(10)
    world.wait(job, state="done", folder=str(world.folder / "run-explored-3"))
    assert list((world.folder / "run-explored-1").iterdir()) == []


def test_closing_cancels_all(world, monkeypatch):
    first, second = world.submit(), world.submit()
    world.wait(first, state="running")

    def step_once_cancelled():
        assert first.cancelling.wait(120)
        world.make.ticks.release()

    monkeypatch.setattr("patchcollide.explorer.jobs._PATIENCE_S", 120)
    stepping = threading.Thread(target=step_once_cancelled)
    stepping.start()
    world.jobs.close()
    stepping.join()
    assert first.state == "cancelled"
    assert second.state == "queued"
    assert world.make.made == []
    assert world.folders() == []


@pytest.fixture
def client(explored_run):
    with client_of(explored_run) as client:
        yield client
    for path in explored_run.parent.glob("run-explored-*"):
        path.rename(path.with_name(f"old-{time.monotonic_ns()}"))


def states(client):
    # Asking as a page does would take the time that the collision needs.
    return [job["state"] for job in client.session.jobs.described()]


def told_states(client):
    return [job["state"] for job in client.get("api/collisions").json()["collisions"]]


def test_two_uploads_become_a_run_that_can_be_explored(client, explored_run, monkeypatch):
    asked_too_early = threading.Event()

    def collide_then(*args, **options):
        assert asked_too_early.wait(120)
        return collide(*args, **options)

    monkeypatch.setattr("patchcollide.explorer.session.collide", collide_then)
    source, target = (client.upload(picture(seed)) for seed in (1, 2))
    answer = client.post("api/collisions", json={"source": source, "target": target})
    assert answer.status_code == 202
    name = answer.json()["id"]
    assert "the collision is" in client.refused(404, "GET", f"runs/{name}/report.html").lower()
    asked_too_early.set()
    wait_until(lambda: states(client) == ["done"])
    (job,) = client.get("api/collisions").json()["collisions"]
    made = Path(job["folder"])
    assert made == explored_run.with_name("run-explored-1")
    run, original = open_run(made), open_run(explored_run)
    assert run.config == original.config
    assert run.inputs["network"] == original.inputs["network"]
    assert run.inputs["images"] == original.inputs["images"]

    assert client.get(f"runs/{name}/report.html").content == (made / "report.html").read_bytes()
    assert client.get(f"runs/{name}/").status_code == 200
    for number in range(3):
        weights = [float(place == number) for place in range(3)]
        found = client.point(weights, path=f"runs/{name}/api/point").json()
        summary = json.loads((made / "summary.json").read_text())["vertices"][number]
        assert found["top"][0]["class"] == summary["class"]
        assert found["distances"]["nearest_vertex"] == 0
    vertex = client.get(f"runs/{name}/pictures/vertex-1.png").content
    assert (
        vertex
        == (made / "vertex-1.png").read_bytes()
        != (explored_run / "vertex-1.png").read_bytes()
    )
    # The uploads are still there for another, and the explorer's own run is untouched.
    assert client.point(CENTRE).status_code == 200
    assert client.get("pictures/source.png").content == (explored_run / "source.png").read_bytes()
    assert read_png(made / "source.png").shape == (28, 28, 1)


def test_one_picture_twice_is_refused_in_a_sentence(client):
    name = client.upload(picture(1))
    client.post("api/collisions", json={"source": name, "target": name})
    wait_until(lambda: states(client) == ["failed"])
    (job,) = client.get("api/collisions").json()["collisions"]
    assert "Source 'source' and target 'target' are the same picture" in job["error"]
    assert job["folder"] is None


def test_a_real_descent_is_cancelled_and_its_folder_removed(client, explored_run, monkeypatch):
    long = load_config(overrides=["optimiser.steps=1000000", "optimiser.stop_distance=1e9"])
    run = client.session._run
    settings = run.config.model_copy(update={"optimiser": long.optimiser})
    monkeypatch.setitem(run.about, "config", settings.model_dump(mode="json"))
    source, target = (client.upload(picture(seed)) for seed in (1, 2))
    body = {"source": source, "target": target}
    client.post("api/collisions", json=body)
    client.post("api/collisions", json=body)
    assert "another waits" in client.refused(429, "POST", "api/collisions", json=body)

    def moving():
        job = client.session.jobs.described()[0]
        return job["stage"] == "Moving the vertices" and job["step"] > 2 and job["total"] == 1000000

    wait_until(moving)
    # The network goes on answering meanwhile.
    assert client.point(CENTRE).status_code == 200
    assert client.post("api/collisions/2/cancel").json()["state"] == "cancelled"
    assert client.post("api/collisions/1/cancel").json()["id"] == "1"
    wait_until(lambda: states(client) == ["cancelled", "cancelled"])
    assert not list(explored_run.parent.glob("run-explored-*"))
    assert told_states(client) == ["cancelled", "cancelled"]
    assert "is cancelled already" in client.refused(409, "POST", "api/collisions/1/cancel")


@pytest.mark.parametrize("is_there", [True, False])
def test_the_store_of_the_run_is_used_while_it_is_there(
    is_there, client, monkeypatch, tmp_path, caplog
):
    asked = []

    def collide(*args, **kwargs):
        asked.append((args, kwargs))
        raise NetworkError("Enough.")

    monkeypatch.setattr("patchcollide.explorer.session.collide", collide)
    store = tmp_path / "store"
    if is_there:
        store.mkdir()
    run = client.session._run
    monkeypatch.setitem(run.about["inputs"], "store", str(store))
    monkeypatch.setitem(run.about["inputs"], "images", str(tmp_path / "gone"))
    body = {role: client.upload(picture(seed)) for seed, role in enumerate(("source", "target"))}
    client.post("api/collisions", json=body)
    wait_until(lambda: states(client) == ["failed"])
    ((args, kwargs),) = asked
    assert args[0] == run.config
    assert args[3:] == (run.folder.with_name("run-explored-1"), store if is_there else None)
    assert kwargs == {"images": None}
    assert ("is no longer there: pixels vary freely" in caplog.text) == (not is_there)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"source": "x", "target": "y"}, 404, "There is no such upload"),
        ({"source": 1, "target": None}, 400, "should be ids of uploads, as text"),
        ({"source": "../../etc/passwd", "target": "x"}, 404, "There is no such upload"),
        ({"source": "x"}, 400, "but has no 'target'"),
    ],
)
def test_a_collision_of_no_uploads_is_refused(body, status, message, client):
    assert message in client.refused(status, "POST", "api/collisions", json=body)
    assert states(client) == []


def test_a_collision_that_is_none_cannot_be_cancelled_or_shown(client):
    assert client.refused(404, "POST", "api/collisions/7/cancel") == "There is no such collision."
    assert client.refused(404, "GET", "runs/7/") == "There is no such collision."
    assert client.refused(404, "POST", "runs/7/api/point", json={"weights": CENTRE})
