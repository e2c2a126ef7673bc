"""Settings files: TOML and overrides to a validated Config."""

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from patchcollide.config import Config, parse_config
from patchcollide.errors import ConfigError


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Reads settings.

    Args:
        path: A TOML file; None for the defaults.
        overrides: ``section.key=value`` each, the value in TOML's notation or a bare string;
            later ones win.

    Raises:
        ConfigError: If the file is missing or not TOML, or a setting is unknown, mistyped or out
            of range.
    """
    values = read_toml(path) if path else {}
    where = [str(path or "the defaults")]
    for override in overrides:
        _apply(values, override)
        where.append(f"--set {override}")
    return parse_config(values, " ".join(where))


def overrides_of(config: Config) -> list[str]:
    """Returns the ``section.key=value`` overrides that lead from the defaults to ``config``."""
    lines = []
    for name, value in config.model_dump(mode="json", exclude_defaults=True).items():
        settings = value.items() if isinstance(value, dict) else [("", value)]
        for key, setting in settings:
            # JSON's notation of these values is also TOML's, but for two kinds of escapes.
            text = json.dumps(setting, ensure_ascii=False).replace("\x7f", "\\u007f")
            lines.append(f"{name}.{key}".rstrip(".") + f"={text}")
    return lines


def builtin_config(name: str) -> Path:
    """Returns the path of ``configs/NAME.toml``, from the wheel or from a source tree."""
    package = Path(__file__).parent
    installed = package / "configs" / f"{name}.toml"
    return installed if installed.is_file() else package.parent / "configs" / f"{name}.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file; ConfigError if it is missing or none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing. Check the path given to --config.") from None
    except (ValueError, RecursionError, OSError) as error:
        raise ConfigError(f"{path} is not a readable TOML file: {error}.") from error


def _apply(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(
            f"--set {override}: expected section.key=value, for example --set retrieval.k=5."
        )
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: '{key}' is a value, not a section.")
    values[keys[-1]] = _toml_value(text.strip())


def _toml_value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # Beside its own errors, numbers of 5,000 digits.
        return text
    return found["value"] if len(found) == 1 else text
