"""What the command line says of itself: commands in groups, defaults, settings."""

import re

import pytest
from typer.testing import CliRunner

from patchcollide.cli.framework import app, arrange
from patchcollide.config_table import GENERAL, setting_lines, setting_rows
from patchcollide.errors import ConfigError

COMMANDS = [info.callback.__name__.rstrip("_") for info in app.registered_commands if info.callback]


def said_by(*words):
    done = CliRunner().invoke(app, words, env={"COLUMNS": "160", "TERM": "dumb"})
    assert done.exit_code == 0, done.output
    return done.stdout


def places_of(patterns, said):
    found = [re.search(pattern, said, re.MULTILINE) for pattern in patterns]
    return [match.start() if match else -1 for match in found]


@pytest.mark.parametrize(
    "patterns",
    [
        ["─ Store", "─ Collide", "─ Measure", "─ Show", "─ Theory", "─ Paper"],
        ["^│ index ", "^│ retrieve ", "^│ collide ", "^│ certify ", "^│ figure ", "^│ reproduce "],
    ],
)
def test_commands_stand_in_groups_in_the_order_in_which_they_are_used(patterns):
    places = places_of(patterns, said_by("--help"))
    assert -1 not in places
    assert places == sorted(places)


def test_a_command_without_a_group_is_refused():
    with pytest.raises(ValueError, match=r"Commands and groups differ in \[.*'collide'.*\]"):
        arrange({"Some": ["index", "no-such"]})


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_names_a_kind_where_there_is_no_value(name):
    said = said_by(name.replace("_", "-"), "--help")
    assert "bool" not in said
    assert "--debug" in said


@pytest.mark.parametrize("name", ["collide", "exact", "audit", "dimensions"])
def test_defaults_of_networks_and_layers_are_shown(name):
    words = " ".join(said_by(name, "--help").replace("│", " ").split())
    assert "(efficientnet_lite0)" in words
    assert name == "dimensions" or "fc6 of vgg16" in words


def test_every_setting_is_printed_with_its_default_unit_and_meaning():
    lines = said_by("settings").splitlines()
    for rows in setting_rows().values():
        for row in rows:
            unit = f" {row.unit}" if row.unit else ""
            place = lines.index(f"{row.name} = {row.default}{unit}")
            assert lines[place + 1].strip() == row.meaning.replace("`", "")
    assert "retrieval.k = 10 patches" in lines


def test_one_section_is_printed_alone_and_no_section_is_refused():
    lines = said_by("settings", "patches").splitlines()
    assert lines[0] == "[patches]"
    assert all(line.startswith(("[patches]", "patches.", " ")) for line in lines)
    assert list(setting_lines(GENERAL))[1].startswith("method = ")
    with pytest.raises(ConfigError, match=r"no section patch\. The sections are general, images"):
        list(setting_lines("patch"))


def test_settings_and_meanings_belong_together():
    meanings = {
        name: {row.name.split(".")[-1]: [row.unit, row.meaning] for row in rows}
        for name, rows in setting_rows().items()
    }
    with pytest.raises(ValueError, match=r"has sections that are none: nothing"):
        setting_rows({**meanings, "nothing": {}})
    with pytest.raises(ValueError, match=r"\[store\] of settings.toml has no such settings: more"):
        setting_rows({**meanings, "store": {**meanings["store"], "more": ["", ""]}})
