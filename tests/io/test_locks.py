"""One process at a time writes a store; the second is told who does."""

import errno
import fcntl
import json
import os
import re
import signal
import stat
import subprocess
import sys

import pytest

from patchcollide import pipeline
from patchcollide.errors import DiskFullError, StoreError
from patchcollide.io.locks import locked
from patchcollide.store.writer import write_store
from tests.helpers.presence import present

HOLDER = """
import sys
from pathlib import Path
from patchcollide.io.locks import locked
with locked(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path):
    """Starts processes that hold the lock of ``store``; they are killed in the end."""
    holders = []

    def hold(kind="alone"):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, tmp_path / "store", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        holders.append(holder)
        assert present(holder.stdout).readline() == "held\n"
        return holder

    yield hold
    for holder in holders:
        holder.kill()
        holder.communicate()


def test_a_lock_leaves_nothing_behind(tmp_path):
    with locked(tmp_path / "store"):
        owner = json.loads((tmp_path / "store.lock").read_text())
        assert owner["pid"] == os.getpid()
        assert owner["host"] == os.uname().nodename
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "store"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_the_second_is_told_who_holds_the_store_until_that_one_is_killed(tmp_path, held):
    holder = held()
    told = rf"store is in use by process {holder.pid} on {re.escape(os.uname().nodename)}, since 2"
    for shared in (False, True):
        with pytest.raises(StoreError, match=told), locked(tmp_path / "store", shared=shared):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["store.lock"]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "store"):
        assert json.loads((tmp_path / "store.lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_readers_share_a_lock_and_keep_writers_out(tmp_path, held):
    holder = held("shared")
    with locked(tmp_path / "store", shared=True):
        pass
    assert (tmp_path / "store.lock").exists()
    with pytest.raises(StoreError, match="in use"), locked(tmp_path / "store"):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path / "store"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_every_stage_that_needs_the_store_is_refused_and_changes_nothing(
    tmp_path, small_config, write_images
):
    images = write_images()
    pipeline.index(small_config, images, tmp_path / "store")
    stages = (
        lambda: pipeline.index(small_config, images, tmp_path / "store"),
        lambda: pipeline.index(small_config, images, tmp_path / "store", extend=True),
        lambda: pipeline.verify(tmp_path / "store"),
        lambda: pipeline.repair(tmp_path / "store"),
    )
    with locked(tmp_path / "store"):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        for stage in stages:
            with pytest.raises(StoreError, match=r"in use by process \d+ on .*nothing was changed"):
                stage()
        after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before
    for stage in stages:
        stage()


def test_a_lock_removed_while_it_was_waited_for_is_not_taken_for_held(tmp_path, monkeypatch):
    path = tmp_path / "store.lock"
    path.touch()
    original, opened = os.open, []

    def removed_after(*args, **options):
        number = original(*args, **options)
        opened.append(number)
        if len(opened) == 1:
            path.unlink()
        return number

    monkeypatch.setattr(os, "open", removed_after)
    with locked(tmp_path / "store"):
        assert len(opened) == 2
        assert os.path.samestat(os.fstat(opened[1]), path.stat())


@pytest.mark.parametrize("content", ["years of work", '{"a": 1}', "[]"])
def test_files_of_others_are_not_taken_for_a_lock(tmp_path, content):
    (tmp_path / "store.lock").write_text(content)
    with (
        pytest.raises(StoreError, match=r"holds something else\. Move that away"),
        locked(tmp_path / "store"),
    ):
        pass
    assert (tmp_path / "store.lock").read_text() == content


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "thesis.tex").touch()
    (tmp_path / "store.lock").symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(StoreError, match="cannot be made"), locked(tmp_path / "store"):
        pass
    assert (tmp_path / "thesis.tex").read_text() == ""


@pytest.mark.parametrize("shared", [False, True])
def test_an_empty_file_of_others_is_locked_but_neither_written_nor_removed(tmp_path, held, shared):
    path = tmp_path / "store.lock"
    path.touch()
    before = path.stat()
    with locked(tmp_path / "store", shared=shared):
        assert path.read_bytes() == b""
    holder = held()
    with (
        pytest.raises(StoreError, match="store is in use by another process"),
        locked(tmp_path / "store", shared=shared),
    ):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path / "store", shared=shared):
        pass
    assert os.path.samestat(path.stat(), before)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (0, before.st_mtime_ns)


def test_an_empty_file_that_is_filled_while_it_is_locked_is_kept(tmp_path):
    path = tmp_path / "store.lock"
    path.touch()
    with locked(tmp_path / "store"):
        path.write_text("a thought")
    assert path.read_text() == "a thought"


def test_what_a_killed_process_left_is_removed(tmp_path, held):
    holder = held()
    holder.kill()
    holder.wait()
    assert (tmp_path / "store.lock").exists()
    with locked(tmp_path / "store"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_two_that_make_the_file_at_once_leave_nothing_behind(tmp_path, monkeypatch):
    """The second opens and locks the file before the first has written who it is."""
    original = os.write
    entered: list[int] = []

    def overtaken(number, content):
        if entered:
            return original(number, content)
        entered.append(number)
        with locked(tmp_path / "store", shared=True):
            return original(number, content)

    monkeypatch.setattr(os, "write", overtaken)
    with locked(tmp_path / "store", shared=True):
        assert (tmp_path / "store.lock").stat().st_size > 0
    assert list(tmp_path.iterdir()) == []


NO_LOCKS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, 524]


@pytest.fixture
def no_locks(request, monkeypatch):
    """A disk without locks, which says so by the number given."""

    def refuse(number, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    return os.strerror(request.param)


@pytest.mark.parametrize("no_locks", NO_LOCKS, indirect=True)
def test_on_a_disk_without_locks_work_goes_on_with_a_warning(
    tmp_path, no_locks, small_config, write_images, caplog
):
    images = write_images()
    pipeline.index(small_config, images, tmp_path / "store")
    told = f"{tmp_path} has no locks ({no_locks}), so nothing keeps a second process from writing"
    assert told in caplog.text
    caplog.clear()
    assert pipeline.verify(tmp_path / "store").damages == ()
    assert caplog.text == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "store"]


@pytest.mark.parametrize("no_locks", NO_LOCKS[:1], indirect=True)
def test_a_disk_without_locks_keeps_the_files_of_others(tmp_path, no_locks):
    (tmp_path / "store.lock").touch()
    with locked(tmp_path / "store"):
        pass
    assert (tmp_path / "store.lock").read_bytes() == b""


def test_a_lock_that_fails_for_another_reason_is_no_missing_lock(tmp_path, monkeypatch):
    def fail(number, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with (
        pytest.raises(StoreError, match=r"store\.lock cannot be made \(Input/output error\)"),
        locked(tmp_path / "store"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_and_leaves_no_lock(tmp_path, monkeypatch):
    def full(number, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with (
        pytest.raises(DiskFullError, match=r"No space to write .*store\.lock"),
        locked(tmp_path / "store"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_store_on_read_only_media_is_verified_without_a_lock(
    tmp_path, small_config, write_images, monkeypatch
):
    store = write_store(small_config, write_images(), tmp_path / "store").path
    original = os.open

    def refuse(path, flags, *args, **options):
        if flags & os.O_CREAT and str(path).endswith(".lock"):
            raise PermissionError(13, "Permission denied")
        return original(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert pipeline.verify(store).damages == ()
    with pytest.raises(StoreError, match=r"store\.lock cannot be made \(Permission denied\)"):
        pipeline.repair(store)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "store.lock")
    with pytest.raises(StoreError, match="something else"), locked(tmp_path / "store"):
        pass
    assert stat.S_ISFIFO((tmp_path / "store.lock").stat().st_mode)
