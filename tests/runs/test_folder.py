"""The folder of a run takes no other run, and says by name what is another."""

from typing import Any

import pytest

from patchcollide.config_files import load_config
from patchcollide.errors import RunError
from patchcollide.runs.folder import start_run

INPUTS: Any = {"source": "photos/cat.png", "target": "photos/cup.png", "network": "a network"}
IDENTITY: Any = {"source": "0a" * 32, "target": "0b" * 32, "network": "0c" * 32, "layer": "act"}


def begin(folder, settings=(), inputs=(), identity=()):
    config = load_config(overrides=settings)
    start_run(folder, config, INPUTS | dict(inputs), IDENTITY | dict(identity))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"settings": ["retrieval.k=7"]}, "retrieval.k: found 10, expected 7"),
        (
            {"inputs": {"source": "dog.png"}, "identity": {"source": "1a" * 32}},
            'source: found "photos/cat.png", expected "dog.png"',
        ),
        ({"identity": {"target": "1b" * 32}}, "target: photos/cup.png had another content"),
        ({"identity": {"layer": "other"}}, 'layer: found "act", expected "other"'),
    ],
)
def test_another_run_in_a_folder_is_told_by_what_differs(changes, said, tmp_path):
    begin(tmp_path / "run")
    with pytest.raises(RunError) as raised:
        begin(tmp_path / "run", **changes)
    assert f"holds another run ({said})" in str(raised.value)
    assert "0a0a" not in str(raised.value)


def test_the_same_run_goes_on_under_other_names(tmp_path):
    begin(tmp_path / "run")
    begin(tmp_path / "run", inputs={"source": "elsewhere/cat.png"})
