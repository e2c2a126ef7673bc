"""What operating systems do differently: each is imitated by taking away what it lacks."""

import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

import patchcollide
from patchcollide.config_files import load_config
from patchcollide.errors import ConfigError, StoreError
from patchcollide.io import provenance, system
from patchcollide.retrieval.planning import budgets
from patchcollide.retrieval.planning.footprint import Workload

LINUX_ONLY = {
    "os": ("sched_getaffinity", "sched_setaffinity", "posix_fadvise", "memfd_create"),
    "sysconf": ("SC_AVPHYS_PAGES",),
}


@pytest.fixture
def not_linux(monkeypatch):
    """Takes away what only Linux has; psutil says what it says on macOS."""
    for name in LINUX_ONLY["os"]:
        monkeypatch.delattr(os, name, raising=False)
    for name in LINUX_ONLY["sysconf"]:
        monkeypatch.delitem(os.sysconf_names, name)
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(total=16 << 30, available=5 << 30)
    )
    monkeypatch.setattr(system, "_MEMORY_LIMIT", Path("/no/such/file"))


NOT_EVERYWHERE = re.compile(
    r"os\.(sched_|posix_|sysconf|getloadavg|fork|get[e]?uid|pread|pwrite|O_(?!RDONLY|WRONLY|RDWR|CREAT|EXCL)"
    r"|memfd|sendfile|statvfs|uname|process_cpu)|\bfcntl\b|\bresource\.|\bpwd\b|/proc/|/sys/"
    r"|signal\.SIG(?!INT|TERM)|getpass|start_method"
)


def test_what_some_systems_lack_is_used_in_one_module():
    package = Path(patchcollide.__file__).parent
    allowed = {("io/provenance.py", "/proc/")}  # asks first whether it is there
    found = {
        (path.relative_to(package).as_posix(), use[0])
        for path in package.rglob("*.py")
        if path.name != "system.py"
        for use in NOT_EVERYWHERE.finditer(path.read_text(encoding="utf-8"))
    }
    assert found <= allowed


def test_memory_and_cores_are_known_without_linux(not_linux):
    assert budgets.memory_budget(None) == (5 << 30) * 8 // 10
    described = provenance.describe_machine()
    assert described["memory_bytes"] == 16 << 30
    assert described["cores"] == os.cpu_count()


def test_memory_is_that_of_linux_here():
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert system.total_memory() == pytest.approx(pages, rel=0.01)
    assert 0 < system.available_memory() <= system.total_memory()
    assert system.usable_cores() == len(os.sched_getaffinity(0))


def test_without_a_process_file_system_memory_is_still_known(monkeypatch, tmp_path):
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert 0 < system.available_memory() <= system.total_memory()


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes_on_every_system(platform, unit, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    usage = SimpleNamespace(ru_maxrss=300_000)
    monkeypatch.setattr(resource, "getrusage", lambda _: usage)
    assert system.peak_memory() == 300_000 * unit


def test_a_load_that_is_not_known_is_none(monkeypatch):
    def unknown():
        raise OSError("Load averages are unobtainable")

    monkeypatch.setattr(psutil, "getloadavg", unknown)
    assert system.busy_cores() == 0


def test_resources_are_required_without_linux(not_linux, monkeypatch, tmp_path):
    work = Workload(load_config(), 100)
    budgets.require_memory(work, budgets.memory_budget(None))
    budgets.require_disk(work, tmp_path)
    little = SimpleNamespace(total=16 << 30, available=1 << 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(ConfigError, match=r"of memory, but the budget is 839kB"):
        budgets.require_memory(work, budgets.memory_budget(None))
    full = SimpleNamespace(total=16 << 30, used=16 << 30, free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(StoreError, match=r"of disk: .* but 0B are free there"):
        budgets.require_disk(work, tmp_path)


WITHOUT_POSIX = """
import importlib.abc, os, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in {"fcntl", "resource"}:
            raise ModuleNotFoundError(name)

import jaxtyping, pathlib, platform, psutil, torch  # as on the system that there is
sys.platform = "win32"
for name in ("fcntl", "resource"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "pread", "pwrite", "sched_getaffinity"):
    delattr(os, name)
from patchcollide.io import system
from patchcollide.io.locks import locked
store = pathlib.Path(sys.argv[1]) / "store"
with locked(store):
    print("held")
assert not list(store.parent.iterdir())
"""


def test_locks_are_passed_over_where_the_system_has_none(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "held\n"
    assert "has no locks" in done.stderr


def faults_of_a_second_allocation():
    """Pages that the system gives anew for memory that was freed just before."""
    counts = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        held = bytearray(64 << 20)
        del held
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return counts[1]


@pytest.mark.skipif(sys.platform != "linux", reason="What other C libraries keep is their own.")
def test_freed_memory_is_kept_in_a_block_and_given_back_after_it():
    if system._glibc() is None:
        pytest.skip("This C library is not glibc.")
    pages = (64 << 20) // resource.getpagesize()
    with system.freed_memory_kept():
        assert faults_of_a_second_allocation() < pages / 10
    assert faults_of_a_second_allocation() > pages / 10


def test_where_the_c_library_is_another_memory_is_left_to_it(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with system.freed_memory_kept():
        assert system._glibc() is None
