"""Writes ``configs/README.md``: every setting with its type, default, unit and meaning.

Types, ranges and defaults are read from the package, units and meanings from
``scripts/settings.toml`` beside this. A setting that lacks a meaning, and a meaning without a
setting, are refused. A test compares what is in the repository with what this writes.

    python scripts/write_settings_table.py
"""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from patchcollide.config import Config, Section

ROOT = Path(__file__).parent.parent
OUT = ROOT / "configs" / "README.md"
MEANINGS = Path(__file__).with_name("settings.toml")
GENERAL = "general"
"""What the settings without a section are called."""

RANGES = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "above {}",
    "exclusiveMaximum": "below {}",
    "minItems": "at least {} of them",
}

FILES = {
    "demo.toml": "the demo: the photographs to leave out, by name",
    "mnist.toml": "digits, as in the paper's Section 3.1",
    "quick.toml": "the quick rows of `patchcollide reproduce`",
    "section4.toml": "the paper's Section 4 as its text has it",
    "section4_authors.toml": "the same as the authors' released code has it",
}

HEAD = """# Settings

*Written by `python scripts/write_settings_table.py`; a test compares.*

A setting is given as `--set section.key=value`, in TOML's notation, or in a file given as
`--config FILE`:

```sh
patchcollide index ILSVRC/train --out stores/imagenet --config configs/section4.toml --seed 1 \\
    --set store.fraction=0.2
```

Options of a command win over `--set`, that over the file, the file over the defaults below. An
unknown setting is refused with the name you may have meant. Every run records the settings it was
made with.

| file | settings of |
|---|---|
{files}
| `reproduce/` | one file a row of the paper's tables: commands, expected numbers, tolerances |
"""


def main() -> None:
    """Writes the file."""
    OUT.write_text(settings_table(), encoding="utf-8")


def settings_table() -> str:
    """Returns the text of ``configs/README.md``.

    Raises:
        KeyError: If a setting has no meaning in ``settings.toml``.
        ValueError: If a meaning has no setting, or a file of ``configs/`` is not listed.
    """
    there = {path.name for path in OUT.parent.glob("*.toml")}
    if there != FILES.keys():
        raise ValueError(f"configs/ and FILES differ in {sorted(there ^ FILES.keys())}.")
    meanings = tomllib.loads(MEANINGS.read_text(encoding="utf-8"))
    files = "\n".join(f"| `{name}` | {what} |" for name, what in FILES.items())
    text = HEAD.format(files=files)
    for name, section in _sections():
        text += "\n".join(_section_lines(name, section, meanings.pop(name)))
    if meanings:
        raise ValueError(f"settings.toml has sections that are none: {', '.join(meanings)}.")
    return text


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


def _section_lines(
    name: str, section: dict[str, Any], meanings: dict[str, list[str]]
) -> Iterator[str]:
    yield f"\n## `{name}`" if name != GENERAL else "\n## Without a section"
    yield ""
    yield "| setting | type | default | unit | meaning |"
    yield "|---|---|---|---|---|"
    for key, schema in section.items():
        unit, meaning = meanings.pop(key)
        setting = key if name == GENERAL else f"{name}.{key}"
        # TOML's notation of these values is also JSON's.
        default = json.dumps(schema["default"])
        kind = _kind(schema)
        yield f"| `{setting}` | {kind} | `{default}` | {unit} | {meaning} |"
    if meanings:
        raise ValueError(f"[{name}] of settings.toml has no such settings: {', '.join(meanings)}.")
    yield ""


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


if __name__ == "__main__":
    main()
