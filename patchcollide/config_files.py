"""Settings from files: TOML and ``section.key=value`` overrides, checked; what is wrong, told."""

import difflib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from patchcollide.config import Config, Section, problems_of
from patchcollide.errors import ConfigError, InputError

Kind = TypeVar("Kind", bound=Section)
Document = TypeVar("Document")

_BEFORE: dict[str, dict[str, Any]] = {
    "network": {"folded": False},
    "objective": {"tightness": 0.0},
    "composition": {"tint": 0.0},
}


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Reads settings.

    Args:
        path: A TOML file; None for the defaults.
        overrides: ``section.key=value`` each, the value in TOML's notation or a bare string;
            later ones win.

    Raises:
        ConfigError: If the file is missing or not TOML, or a setting is unknown, mistyped or out
            of range.

    Example:
        >>> load_config(overrides=["optimiser.steps=50"]).optimiser.steps
        50
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


def parse_config(values: object, where: str) -> Config:
    """Checks what a file holds as settings; ``where`` is named in errors."""
    return parse_section(Config, values, where)


def parse_recorded(values: dict[str, Any], where: str) -> Config:
    """Checks the settings that a file of our own holds.

    Settings that came later, and that it lacks, are what was done before they were there, not what
    is the default now.
    """
    sections = {
        name: {**_BEFORE[name], **values[name]}
        for name in _BEFORE.keys() & values.keys()
        if isinstance(values[name], dict)
    }
    return parse_config(values | sections, where)


def parse_section(kind: type[Kind], values: object, where: str) -> Kind:
    """Checks what a file holds as any kind of settings.

    Args:
        kind: The section at the top.
        values: What a file holds.
        where: Named in errors.

    Raises:
        ConfigError: If a key is unknown, or a value missing, mistyped or out of range.
    """
    problems = [_explain(problem, kind) for problem in problems_of(kind, values)]
    if problems:
        raise ConfigError(f"{where}: " + "; ".join(problems))
    return kind.model_validate(values)


def recorded(
    kind: type[Document], values: object, path: Path, error: type[InputError], remedy: str
) -> Document:
    """Returns what a file of our own holds, checked before anything believes it.

    Args:
        kind: The ``TypedDict`` that it should be; later versions may say more beside it.
        values: What it holds.
        path: The file, for the message.
        error: What to raise if a value is missing, of another type or out of range.
        remedy: What to do then.
    """
    problems = problems_of(kind, values)
    if problems:
        told = [_explain(problem, kind).replace("the setting ", "") for problem in problems]
        more = f"; and {len(told) - 1} more" if len(told) > 1 else ""
        raise error(f"{path} is damaged ({told[0]}{more}). {remedy}")
    return cast("Document", values)


def _explain(problem: Any, kind: type[Any]) -> str:
    place = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {place}{_suggestion(problem['loc'], kind)}"
    if problem["type"] == "missing":
        return f"the setting {place} is missing"
    if not place:
        return str(problem["msg"]).removeprefix("Value error, ")
    message = str(problem["msg"])
    return f"{place} = {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _suggestion(location: tuple[str | int, ...], kind: type[Section]) -> str:
    known = known_settings(kind)
    name = ".".join(map(str, location))
    last = str(location[-1])
    # A key that exists in another section is the likelier mistake than a misspelt one.
    moved = [setting for setting in known if setting.split(".")[-1] == last]
    close = moved or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"


def known_settings(kind: type[Section]) -> list[str]:
    """Returns the dotted names of a section's settings, and of those of sections in it."""
    names = []
    for name, field in kind.model_fields.items():
        names.append(name)
        # A section may be optional, or one of a list.
        for section in (field.annotation, *get_args(field.annotation)):
            if isinstance(section, type) and issubclass(section, Section):
                names += [f"{name}.{key}" for key in known_settings(section)]
    return names
