"""Writes ``configs/README.md``: every setting with its type, default, unit and meaning.

Types, ranges and defaults are read from the package, units and meanings from
``scripts/settings.toml`` beside this. A setting that lacks a meaning, and a meaning without a
setting, are refused. A test compares what is in the repository with what this writes.

    python scripts/write_settings_table.py
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path

from patchcollide.config_table import GENERAL, SettingRow, setting_rows

ROOT = Path(__file__).parent.parent
OUT = ROOT / "configs" / "README.md"
MEANINGS = Path(__file__).with_name("settings.toml")
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
    files = "\n".join(f"| `{name}` | {what} |" for name, what in FILES.items())
    text = HEAD.format(files=files)
    for name, rows in setting_rows(tomllib.loads(MEANINGS.read_text(encoding="utf-8"))).items():
        text += "\n".join(_section_lines(name, rows))
    return text


def _section_lines(name: str, rows: list[SettingRow]) -> Iterator[str]:
    yield f"\n## `{name}`" if name != GENERAL else "\n## Without a section"
    yield ""
    yield "| setting | type | default | unit | meaning |"
    yield "|---|---|---|---|---|"
    for row in rows:
        yield f"| `{row.name}` | {row.kind} | `{row.default}` | {row.unit} | {row.meaning} |"
    yield ""


if __name__ == "__main__":
    main()
