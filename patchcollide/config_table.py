"""What every setting is: its type and range, its default, its unit and its meaning.

Types, ranges and defaults are those of :mod:`patchcollide.config`; units and meanings are in
``settings.toml``, which lies beside the scripts of a source tree and inside of a wheel.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchcollide.config import Config, Section
from patchcollide.config_files import read_toml
from patchcollide.errors import ConfigError

__all__ = ["GENERAL", "SettingRow", "setting_lines", "setting_rows"]

GENERAL = "general"
"""What the settings without a section are called."""
RANGES = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "minItems": "at least {} of them",
}


@dataclass(frozen=True)
class SettingRow:
    """A setting.

    Attributes:
        name: As ``--set`` takes it, such as ``retrieval.k``.
        kind: What values it may have, in words and Markdown.
        default: In TOML's notation.
        unit: Of its value; empty for none.
        meaning: A sentence.
    """

    name: str
    kind: str
    default: str
    unit: str
    meaning: str


def meanings_file() -> Path:
    """Returns the path of ``settings.toml``, from the wheel or from a source tree."""
    package = Path(__file__).parent
    installed = package / "configs" / "settings.toml"
    return installed if installed.is_file() else package.parent / "scripts" / "settings.toml"


def setting_rows(meanings: dict[str, Any] | None = None) -> dict[str, list[SettingRow]]:
    """Returns all settings, by section; those without one come first, under :data:`GENERAL`.

    Args:
        meanings: Unit and meaning of each, by section and name; by default those of
            :func:`meanings_file`.

    Raises:
        KeyError: If a setting has no meaning.
        ValueError: If a meaning has no setting.
    """
    left = read_toml(meanings_file()) if meanings is None else dict(meanings)
    rows = {name: list(_rows(name, section, dict(left.pop(name)))) for name, section in _sections()}
    if left:
        raise ValueError(f"settings.toml has sections that are none: {', '.join(left)}.")
    return rows


def setting_lines(section: str | None = None) -> Iterator[str]:
    """Yields settings as the command line prints them, each with its default, unit and meaning.

    Args:
        section: Only this one's, ``general`` for those without one; by default all.

    Raises:
        ConfigError: If there is no such section.
    """
    rows = setting_rows()
    if section is not None and section not in rows:
        raise ConfigError(
            f"There is no section {section}. The sections are {', '.join(rows)}; "
            "`patchcollide settings` without one prints all."
        )
    for name in rows if section is None else [section]:
        if name != next(iter(rows)) and section is None:
            yield ""
        yield f"[{name}]"
        for row in rows[name]:
            unit = f" {row.unit}" if row.unit else ""
            yield f"{row.name} = {row.default}{unit}"
            yield f"    {row.meaning.replace('`', '')}"
            yield f"    {row.kind.replace('`', '')}"


def _sections() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields names of sections and their schemas; first the settings that have none."""
    schema = Config.model_json_schema()
    fields = Config.model_fields
    inner = {
        name: field.annotation
        for name, field in fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }
    yield GENERAL, {key: schema["properties"][key] for key in fields if key not in inner}
    for name, section in inner.items():
        yield name, section.model_json_schema()["properties"]


def _rows(
    name: str, section: dict[str, Any], meanings: dict[str, list[str]]
) -> Iterator[SettingRow]:
    for key, schema in section.items():
        unit, meaning = meanings.pop(key)
        setting = key if name == GENERAL else f"{name}.{key}"
        # TOML's notation of these values is also JSON's.
        yield SettingRow(setting, _kind(schema), json.dumps(schema["default"]), unit, meaning)
    if meanings:
        raise ValueError(f"[{name}] of settings.toml has no such settings: {', '.join(meanings)}.")


def _kind(schema: dict[str, Any]) -> str:
    """Says in words what values a JSON schema allows."""
    if "anyOf" in schema:
        return "; or ".join(_kind(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    words = schema["type"]
    if words == "array":
        words = f"list of {_kind(schema['items'])}"
    ranges = [text.format(f"{schema[key]:,}") for key, text in RANGES.items() if key in schema]
    if "pattern" in schema:
        ranges.append(f"`{schema['pattern'].replace('|', chr(92) + '|')}`")
    return ", ".join([words, *ranges])
