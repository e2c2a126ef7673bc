"""Typed settings, read from TOML files and ``section.key=value`` overrides.

The settings are plain values: the defaults below are the project's choice, ``configs/*.toml`` hold
the ones of a demo and of the paper, and every output carries the ones it was made with.
"""

import difflib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from patchcollide.errors import ConfigError, GeometryError
from patchcollide.geometry import PatchGrid

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]


class Section(BaseModel):
    """A group of settings; unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Images(Section):
    """How any picture becomes a square image; sources and targets alike."""

    size_px: Annotated[int, Field(ge=8)] = 224
    fit: Literal["crop", "squash"] = "crop"
    max_pixels: Count = 100_000_000


class Patches(Section):
    """The sliding window: see :class:`patchcollide.geometry.PatchGrid`."""

    window_px: Count = 32
    stride_px: Count = 12
    patch_px: Count = 32


class Store(Section):
    """Which images go into a store, and how many a shard holds."""

    fraction: Share = 1.0
    images_per_shard: Count = 2048


class Index(Section):
    """Descriptors and the FAISS index over them."""

    components: Annotated[int, Field(ge=1, le=1024)] = 64
    kind: Literal["auto", "flat", "ivf-flat", "ivf-pq"] = "auto"
    training_patches: Count = 655_360
    basis_patches: Count = 20_000
    probes: Count = 64
    rerank: Count = 300


class Retrieval(Section):
    """Which neighbours a location of the source gets."""

    engine: Literal["ann", "certified", "exact"] = "ann"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    k: Count = 10
    query_stride_px: Count = 12
    leak_guard: bool = True
    deduplicate: bool = True
    # TOML and JSON have lists only.
    exclude: Annotated[tuple[str, ...], Field(strict=False)] = ()


class Network(Section):
    """The network under study and the layer whose features are to collide."""

    name: str = "efficientnet_lite0"
    layer: str = ""
    weights: str = "pretrained"
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.5


class Composition(Section):
    """How neighbours are mixed: coefficients along each side of a patch."""

    coefficient_size: Count = 32


class Objective(Section):
    """Weights of the terms that vertices minimise; see :mod:`patchcollide.losses`."""

    active: Weight = 1.0
    inactive: Weight = 1.0
    penalty: Literal["hinge", "absolute"] = "hinge"
    total_variation: Weight = 0.0
    diversity: Weight = 0.3
    hull_samples: Annotated[int, Field(ge=0)] = 5


class Optimiser(Section):
    """Adam, its schedule, and when to stop.

    The learning rate and the noise at the start are in logits for compositions, and in hundredths
    of the value range for free pixels.
    """

    num_vertices: Annotated[int, Field(ge=1, le=64)] = 5
    steps: Count = 300
    learning_rate: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    start_noise: Weight = 0.1
    check_every: Count = 25
    checkpoint_every: Count = 50
    validation_samples: Count = 64
    stop_success: Share = 1.0
    stop_probability: Share = 0.9
    stop_distance: Weight = 5500.0


class Evaluation(Section):
    """How a finished polytope is measured, and beside how many images of the data set."""

    num_samples: Count = 2000
    dataset_pairs: Count = 1000
    null_images: Count = 32
    batch_size: Count = 32


class Config(Section):
    """All settings."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    allow_same_image: bool = False
    images: Images = Images()
    patches: Patches = Patches()
    store: Store = Store()
    index: Index = Index()
    retrieval: Retrieval = Retrieval()
    network: Network = Network()
    composition: Composition = Composition()
    objective: Objective = Objective()
    optimiser: Optimiser = Optimiser()
    evaluation: Evaluation = Evaluation()

    @property
    def grid(self) -> PatchGrid:
        """The geometry of stored patches."""
        return PatchGrid(
            self.images.size_px,
            self.patches.window_px,
            self.patches.stride_px,
            self.patches.patch_px,
        )

    @model_validator(mode="after")
    def _geometry_fits(self) -> "Config":
        # pydantic reports ValueErrors together with the place they come from.
        try:
            grid = self.grid
        except GeometryError as error:
            raise ValueError(str(error)) from error
        try:
            grid.with_stride(self.retrieval.query_stride_px)
        except GeometryError as error:
            # Queries only have another stride.
            text = str(error).replace("patches.stride_px", "retrieval.query_stride_px")
            raise ValueError(text) from error
        return self


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
    values = _read_toml(path) if path else {}
    where = [str(path or "the defaults")]
    for override in overrides:
        _apply(values, override)
        where.append(f"--set {override}")
    return parse_config(values, " ".join(where))


def parse_config(values: dict[str, Any], where: str) -> Config:
    """Checks a nested dictionary of settings; ``where`` is named in errors."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(map(_explain, error.errors()))) from None


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


def _read_toml(path: Path) -> dict[str, Any]:
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


def _explain(problem: Any) -> str:
    place = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {place}{_suggestion(problem['loc'])}"
    if not place:
        return str(problem["msg"]).removeprefix("Value error, ")
    message = str(problem["msg"])
    return f"{place} = {problem['input']!r}: {message[0].lower()}{message[1:]}"


def _suggestion(location: tuple[str | int, ...]) -> str:
    known = _known_settings()
    name = ".".join(map(str, location))
    last = str(location[-1])
    # A key that exists in another section is the likelier mistake than a misspelt one.
    moved = [setting for setting in known if setting.split(".")[-1] == last]
    close = moved or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"


def _known_settings() -> list[str]:
    names = []
    for name, field in Config.model_fields.items():
        section = field.annotation
        names.append(name)
        if isinstance(section, type) and issubclass(section, Section):
            names += [f"{name}.{key}" for key in section.model_fields]
    return names
