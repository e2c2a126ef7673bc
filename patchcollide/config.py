"""Typed settings, section by section.

The settings are plain values: the defaults below are the project's choice, ``configs/*.toml`` hold
the ones of a demo and of the paper, and every output carries the ones it was made with.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from patchcollide.errors import GeometryError
from patchcollide.geometry import Canvas, PatchGrid

Count = Annotated[int, Field(ge=1)]

Number = Annotated[float, Field(allow_inf_nan=False)]

Position = Annotated[int, Field(ge=0)]

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]

Share = Annotated[float, Field(gt=0, le=1)]

# TOML and JSON have lists only.
Texts = Annotated[tuple[str, ...], Field(strict=False)]

Numbers = Annotated[tuple[Number, ...], Field(strict=False, max_length=3)]

TextsByName = Annotated[dict[str, str], Field(default_factory=dict)]


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
    probes: Count = 16
    rerank: Count = 100


class Retrieval(Section):
    """Which neighbours a location of the source gets."""

    engine: Literal["auto", "ann", "certified", "exact"] = "ann"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    k: Count = 10
    query_stride_px: Count = 12
    leak_guard: bool = True
    deduplicate: bool = True
    exclude: Texts = ()


class Network(Section):
    """The network under study and the layer whose features are to collide.

    The weights file must have the SHA-256 in ``sha256``; empty for any. Features collide where the
    layer's activations differ by at most ``tolerance``, in units of its output: 0, as in the paper,
    asks for equal ones; activations that are nowhere constant, such as GELU, need more. What is not
    said of ``input_size``, ``mean``, ``scale`` and ``output``, the logits', is the network's own.
    ``folded`` has a descent compute with a copy whose batch norms are folded.
    """

    name: str = "efficientnet_lite0"
    layer: str = ""
    tolerance: Weight = 0.0
    weights: str = "pretrained"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    folded: bool = True
    sha256: Annotated[str, Field(pattern="^([0-9a-fA-F]{64})?$")] = ""
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    input_size: Annotated[int, Field(ge=0)] = 0
    mean: Numbers = ()
    scale: Numbers = ()
    output: str = ""

    @pydantic.model_serializer(mode="wrap")
    def _as_ever(self, write: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        # So runs have the fingerprints that they had before these could be said.
        optional = ("input_size", "mean", "scale", "output")
        return {key: value for key, value in write(self).items() if value or key not in optional}


class Composition(Section):
    """How neighbours are mixed.

    ``coefficient_size`` is the number of coefficients along each side of a patch, between which
    they are interpolated. The paper has one a pixel; with fewer, vertices differ in shapes that
    people see instead of in noise, and are found in fewer steps. A patch reaches over its window
    by ``margin_px`` pixels of the stored image, taken from the neighbour's own image and mirrored
    at its border. The nearest ``neighbours`` of each location are composed; 0 composes all that
    were retrieved. A ``tint`` above 0 adds a field of three numbers a pixel to the logits, by which
    they rise with a patch's colour; see
    :class:`patchcollide.composition.parameterisations.PatchMixture`.
    """

    coefficient_size: Count = 8
    tint: Weight = 3.0
    margin_px: Annotated[int, Field(ge=0)] = 0
    neighbours: Annotated[int, Field(ge=0)] = 0


class Objective(Section):
    """What vertices minimise.

    With a ``tightness`` above 0 vertices move as far apart as features let them that differ from
    the target's by at most this share, behind the activation, all over the hull; free pixels stay
    within ``source_distance`` of the source, a root mean square difference as a share of the value
    range, or anywhere if it is 0. Of compositions the distance in means over blocks of a 28th of a
    side counts, and the rest of it against them, by ``coarseness``: vertices are to differ to the
    eye. There are no weights then; see
    :mod:`patchcollide.optimisation.tight`. Without, these are the weights of a sum that is in units
    of the features; see :mod:`patchcollide.optimisation.objective`.
    """

    tightness: Annotated[float, Field(ge=0, lt=1)] = 0.1
    proved: bool = False
    source_distance: Annotated[float, Field(ge=0, le=1)] = 0.11
    coarseness: Weight = 12.0
    active: Weight = 1.0
    inactive: Weight = 1.0
    penalty: Literal["hinge", "absolute"] = "hinge"
    total_variation: Weight = 0.0
    diversity: Weight = 1.0
    # Which blind units the vertices drive deeper; "none" leaves it to ``diversity`` to part them.
    # TOML and JSON have lists only.
    units: (
        Literal["first", "random", "room", "spread", "none"]
        | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False, min_length=1)]
    ) = "first"
    hull_samples: Annotated[int, Field(ge=0)] = 5


class Optimiser(Section):
    """What moves the parameters, its schedule, and when to stop.

    The learning rate and the noise at the start are in logits for compositions, and in hundredths
    of the value range for free pixels; with ``method = "authors"`` the learning rate multiplies a
    gradient, as in the released code. The descent stops when, of a batch of points between the
    vertices, ``stop_success`` is classified as the target, with a mean probability of
    ``stop_probability`` times the target's own, the least sure one with ``stop_margin`` times the
    target's margin over the next class, their mean gap on active units, before the activation, is
    at most ``stop_gap`` times the target's own mean there, and the vertices are ``stop_distance``
    apart in 0..255. The default asks for no gap: it is for layers at which classes agree long
    before features do.
    """

    method: Literal["adam", "authors"] = "adam"
    num_vertices: Annotated[int, Field(ge=1, le=64)] = 5
    steps: Count = 600
    learning_rate: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0
    warmup_steps: Annotated[int, Field(ge=0)] = 10
    start_noise: Weight = 0.1
    check_every: Count = 10
    checkpoint_every: Count = 50
    validation_samples: Count = 64
    stop_success: Share = 1.0
    stop_probability: Share = 0.96
    stop_margin: Annotated[float, Field(ge=0, le=1)] = 0.4
    stop_gap: Weight = 1e6
    stop_distance: Weight = 8700.0


class Exact(Section):
    """Which vertices of an exact polytope are found, and what else is measured of it.

    ``vertices``: where one unit each is deepest, as in the paper (``"unit"``, see
    ``objective.units``); where a random direction is (``"random"``); or as far apart as can be
    found (``"far"``). ``space``: pixels in their range, or of any value, where most polytopes have
    no end. ``extents`` asks for how far the polytope reaches, ``width_pixels`` for how many pixels.
    """

    vertices: Literal["unit", "random", "far"] = "unit"
    space: Literal["range", "anything"] = "range"
    extents: bool = True
    width_pixels: Count = 16


class Baselines(Section):
    """What methods other than the default need beside section ``optimiser``.

    ``start`` is what free pixels start from: ``"auto"`` is noise for metamers, else the source.
    ``match`` is what metamers match: what goes into the layer's activation or comes out of it. An
    adversarial example stays within ``radius`` grey levels, of 0..255, of the source at each value,
    in ``attack_steps`` steps. Level Set Traversal goes ``traversal_rate`` of the way that is left
    in a step, with up to ``traversal_push`` grey levels back towards the class, and stops before
    the class's probability falls by more than ``confidence_drop``.
    """

    start: Literal["auto", "source", "target", "noise"] = "auto"
    match: Literal["pre_activation", "activation"] = "pre_activation"
    radius: Annotated[float, Field(gt=0, le=255, allow_inf_nan=False)] = 8.0
    attack_steps: Count = 40
    traversal_rate: Annotated[float, Field(gt=0, le=1)] = 0.01
    traversal_push: Annotated[float, Field(ge=0, le=255, allow_inf_nan=False)] = 0.5
    confidence_drop: Annotated[float, Field(ge=0, lt=1)] = 0.2


class Audit(Section):
    """How the polytopes of many images are measured, and of how many images.

    ``method``: exactly, by linear programs (``"exact"``), by a descent over pixels with a fixed
    number of ``steps`` (``"search"``), or exactly where the layer is affine in the image
    (``"auto"``). ``per_class`` images of each class are drawn by seed; ``hull_samples`` points
    between the vertices of each are classified. A descent takes its objective from section
    ``objective`` and its step size from ``optimiser``.
    """

    method: Literal["auto", "exact", "search"] = "auto"
    per_class: Count = 20
    num_vertices: Annotated[int, Field(ge=2, le=16)] = 3
    steps: Count = 40
    hull_samples: Count = 32


class Evaluation(Section):
    """How a finished polytope is measured, and beside how many images of the data set."""

    num_samples: Count = 2000
    dataset_pairs: Count = 1000
    null_images: Count = 32
    # Of each edge, and each way to the centre, that the page's tour goes along.
    tour_points: Count = 16
    check_samples: Count = 200
    null_samples: Count = 200
    # The default stands for what is fastest: small batches stay in the caches of the processor.
    batch_size: Count = 8


class Config(Section):
    """All settings.

    ``method`` is how ``collide`` finds images: ``"polytope"`` is ours, the others are to compare
    with; see :mod:`patchcollide.optimisation.methods.registry`.
    """

    method: Literal[
        "polytope",
        "class",
        "features",
        "metamer",
        "null_space",
        "adversarial",
        "level_set",
        "plenoptic",
    ] = "polytope"
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
    exact: Exact = Exact()
    baselines: Baselines = Baselines()
    evaluation: Evaluation = Evaluation()
    audit: Audit = Audit()

    @property
    def grid(self) -> PatchGrid:
        """The geometry of stored patches."""
        images, patches = self.images, self.patches
        return PatchGrid(images.size_px, patches.window_px, patches.stride_px, patches.patch_px)

    def identity(self) -> dict[str, Any]:
        """Returns what identifies a run: all settings but, for the default method, the others'.

        So runs have the fingerprints that they had when there was one method only, and no bound on
        features.
        """
        settings = self.model_dump(mode="json")
        if self.method == "polytope":
            del settings["method"], settings["baselines"]
        elif self.method != "level_set":
            for name in ("traversal_rate", "traversal_push", "confidence_drop"):
                del settings["baselines"][name]
        if not self.network.folded:
            del settings["network"]["folded"]
        if not self.objective.tightness:
            for name in ("tightness", "source_distance", "coarseness"):
                del settings["objective"][name]
        if not self.objective.proved:
            del settings["objective"]["proved"]
        if not self.composition.tint:
            del settings["composition"]["tint"]
        return settings

    @pydantic.model_validator(mode="after")
    def _geometry_fits(self) -> "Config":
        # pydantic reports ValueErrors together with the place they come from.
        try:
            grid = self.grid
            Canvas.of(grid, self.composition.margin_px)
        except GeometryError as error:
            raise ValueError(str(error)) from error
        try:
            grid.with_stride(self.retrieval.query_stride_px)
        except GeometryError as error:
            # Queries only have another stride.
            text = str(error).replace("patches.stride_px", "retrieval.query_stride_px")
            raise ValueError(text) from error
        return self

    @pydantic.model_validator(mode="after")
    def _neighbours_are_retrieved(self) -> "Config":
        if self.composition.neighbours > self.retrieval.k:
            raise ValueError(
                f"composition.neighbours = {self.composition.neighbours}, but only retrieval.k = "
                f"{self.retrieval.k} are retrieved. Set retrieval.k to at least "
                f"{self.composition.neighbours}."
            )
        return self


def problems_of(kind: type[Any], values: object) -> list[Any]:
    """Returns what is wrong with values, each as pydantic says it; empty if nothing.

    Args:
        kind: A section, or a ``TypedDict``: what values have beside its keys is let through.
        values: What a file holds.
    """
    try:
        if issubclass(kind, Section):
            kind.model_validate(values)
        else:
            TypeAdapter(kind).validate_python(values, strict=True)
    except ValidationError as error:
        return list(error.errors())
    return []
