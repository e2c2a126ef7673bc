"""The examples in the docstrings of public names do what they say."""

import doctest
import inspect
import sys

import pytest

import patchcollide

PUBLIC = sorted(name for name in patchcollide.__all__ if name != "__version__")


def examples_of(name):
    public = getattr(patchcollide, name)
    module = sys.modules[public.__module__]
    # Shapes are checked by functions around the public ones, whose source is the inner one's.
    found = doctest.DocTestFinder(recurse=False).find(
        inspect.unwrap(public), name, module=False, globs={**vars(module), name: public}
    )
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_do_what_they_say(name):
    for example in examples_of(name):
        told: list[str] = []
        failed, _ = doctest.DocTestRunner().run(example, out=told.append)
        assert not failed, "".join(told)


def test_functions_have_examples():
    assert {name for name in PUBLIC if examples_of(name)} >= {"load_config", "load_network"}
