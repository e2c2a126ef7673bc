"""What is installed: the bounds of pyproject.toml, the pinned versions, and what errors advise."""

import importlib
import itertools
import platform
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from patchcollide.errors import MissingLibraryError
from patchcollide.store import faiss_library

ROOT = Path(__file__).parent.parent.parent
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
PINNED = [extra for extra in EXTRAS if extra != "gpu"]
CONSTRAINTS = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()


def environment(python, system="linux", machine="x86_64"):
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_machine": machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def wanted():
    given = [PROJECT["project"]["dependencies"], *(EXTRAS[extra] for extra in PINNED)]
    return map(Requirement, itertools.chain(*given, PROJECT["build-system"]["requires"]))


def pinned_versions(python):
    """Returns what the constraints pin for a Python, by name."""
    lines = [
        Requirement(line) for line in CONSTRAINTS if line and not line.lstrip().startswith("#")
    ]
    met = [each for each in lines if not each.marker or each.marker.evaluate(environment(python))]
    names = [canonicalize_name(each.name) for each in met]
    assert len(set(names)) == len(names), "one version each"
    return {name: next(iter(each.specifier)) for name, each in zip(names, met, strict=True)}


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_pinned_within_its_bounds(python):
    pinned = pinned_versions(python)
    for requirement in wanted():
        pin = pinned[canonicalize_name(requirement.name)]
        assert pin.operator == "=="
        assert requirement.specifier.contains(pin.version), f"{requirement} is pinned to {pin}"


def test_the_constraints_say_how_they_were_made():
    command = shlex.split(CONSTRAINTS[1].lstrip("# "))
    named = {after for option, after in itertools.pairwise(command) if option == "--extra"}
    assert command[:3] == ["uv", "pip", "compile"]
    assert {"--universal", "pyproject.toml"} < set(command)
    assert named == set(PINNED)


def test_the_group_that_is_pinned_is_what_builds_the_package():
    assert PROJECT["dependency-groups"]["build"] == PROJECT["build-system"]["requires"]


def test_no_address_of_a_registry_is_in_the_constraints():
    assert not [line for line in CONSTRAINTS if re.search(r"://|-url", line)]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("linux", "x86_64", "faiss-gpu"),
        ("linux", "aarch64", "faiss-cpu"),
        ("darwin", "arm64", "faiss-cpu"),
        ("win32", "AMD64", "faiss-cpu"),
    ],
)
def test_the_extra_for_gpus_asks_for_one_faiss_that_has_wheels(python, system, machine, name):
    here = environment(python, system, machine)
    given = [Requirement(each) for each in EXTRAS["gpu"]]
    asked = [each for each in given if not each.marker or each.marker.evaluate(here)]
    assert [each.name for each in asked] == [name]
    # Older ones have no wheels for Python 3.11 and newer.
    assert name == "faiss-cpu" or not asked[0].specifier.contains("1.7.2")


def lowest_gpu_version():
    (requirement,) = (each for each in map(Requirement, EXTRAS["gpu"]) if each.name == "faiss-gpu")
    return re.escape(next(iter(requirement.specifier)).version)


@pytest.mark.parametrize(
    ("system", "machine", "advice"),
    [
        ("linux", "x86_64", rf"patchcollide\[gpu\]` \(faiss-gpu {lowest_gpu_version()} or newer"),
        ("darwin", "arm64", r"patchcollide\[cpu\]` \(there is none for GPUs on this platform"),
    ],
)
def test_without_faiss_the_one_to_install_is_named(system, machine, advice, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(MissingLibraryError, match=f"FAISS is not installed.*{advice}"):
        faiss_library.import_faiss()


def test_a_faiss_that_cannot_be_loaded_is_not_said_to_be_missing(monkeypatch):
    def fail(name):
        raise ImportError("libcublas.so.12: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(MissingLibraryError, match=r"cannot be loaded \(libcublas.so.12: cannot op"):
        faiss_library.import_faiss()
