"""Former names of modules work for one release, with a warning."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import patchcollide
from patchcollide._moved import LEFT, MOVED

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    """Former names are looked up anew in each test, and leave nothing behind."""
    before = dict(sys.modules)
    yield
    for name in MOVED:
        if f"patchcollide.{name}" not in before:
            sys.modules.pop(f"patchcollide.{name}", None)
            vars(patchcollide).pop(name, None)


@pytest.mark.parametrize("name", MOVED)
def test_a_moved_module_is_found_by_its_former_name(name):
    now = importlib.import_module(f"patchcollide.{MOVED[name]}")
    spec = now.__spec__
    with pytest.warns(FutureWarning, match=re.escape(f"is {now.__name__} now")):
        assert importlib.import_module(f"patchcollide.{name}") is now
    assert (now.__spec__, now.__name__) == (spec, f"patchcollide.{MOVED[name]}")


@pytest.mark.parametrize("name", MOVED)
def test_a_moved_module_is_an_attribute_of_the_package_by_its_former_name(name):
    with pytest.warns(FutureWarning, match=rf"patchcollide\.{name} is "):
        found = getattr(patchcollide, name)
    assert found is importlib.import_module(f"patchcollide.{MOVED[name]}")


def test_other_names_are_unknown_as_ever():
    with pytest.raises(ModuleNotFoundError, match=r"patchcollide\.lineare"):
        importlib.import_module("patchcollide.lineare")
    with pytest.raises(AttributeError, match="has no attribute 'lineare'"):
        patchcollide.lineare  # noqa: B018


@pytest.mark.parametrize("name", LEFT)
def test_a_module_that_has_left_says_where_it_is(name):
    with pytest.raises(ModuleNotFoundError, match=rf"{name} has left the package\. {LEFT[name]}"):
        importlib.import_module(f"patchcollide.{name}")
    with pytest.raises(AttributeError, match=rf"no attribute '{name}'\. {LEFT[name]}"):
        getattr(patchcollide, name)
    assert (ROOT / LEFT[name].split()[-1].rstrip(".")).is_file()
