"""What ``summary.json`` holds: blocks of figures, each typed where it is measured.

:mod:`patchcollide.runs.summary` measures, reads and writes it. A block is added in three places:
its type beside its measure, its key in :class:`Summary`, and its line in ``summarise``.
"""

from typing import NotRequired, TypedDict

from patchcollide.evaluation.aimed import AimedSamples
from patchcollide.evaluation.claims import EdgeWalks
from patchcollide.evaluation.closeness import Closeness
from patchcollide.evaluation.controls import Controls
from patchcollide.evaluation.degeneracy import Degeneracy
from patchcollide.evaluation.driven_units import DrivenUnit
from patchcollide.evaluation.evaluate import CollisionGaps, PolytopeFigures
from patchcollide.evaluation.samples import ClassCount
from patchcollide.evaluation.verdicts import TightnessBlock
from patchcollide.evaluation.visibility import Visibility
from patchcollide.proofs.worst import HullClaims, WorstFound


class Ending(TypedDict):
    """How the way to vertices ended.

    Attributes:
        steps: How many.
        stopped_because: Why, in words.
        shrunk_to: The share of its size to which the hull was then shrunk, as with
            ``objective.proved``, until it was proved; 0 if it was proved at none and was left.
    """

    steps: int
    stopped_because: str
    shrunk_to: NotRequired[float]


class ExactVertex(TypedDict):
    """A vertex that was solved for.

    Attributes:
        value: What was minimised there.
        violation: Of any equation or inequality, the largest.
        tight_constraints: How many independent ones are tight.
        is_vertex: Whether these are as many as variables.
    """

    value: float
    violation: float
    tight_constraints: int
    is_vertex: bool


class ExactFigures(TypedDict):
    """How exactly vertices of linear programs collide, and that they are vertices.

    Attributes:
        num_variables: Of each program.
        active: Units, which give equations.
        inactive: Units, which give inequalities.
        violation_max: Of any vertex, in units of the pre-activation or of the space's own.
        vertices: One by one.
    """

    num_variables: int
    active: int
    inactive: int
    violation_max: float
    vertices: list[ExactVertex]


class PixelWidths(TypedDict):
    """How far single pixels can change, each on its own, in 0..255."""

    num_pixels: int
    mean: float
    min: float
    max: float


class Extents(TypedDict):
    """How far an exact polytope reaches, in 0..255; the largest distances are not proven to be.

    What fails is None, as what has no end is; compositions have neither a dimension nor a ball.

    Attributes:
        dimension: Of the polytope, by Proposition 1.
        dimension_bound: What that promises.
        kernel_within: Whether its kernel condition holds.
        ball_radius: Of the largest ball inside, in the polytope's own dimensions.
        pixel_widths: Of some pixels.
        far_pair: The largest distance of two vertices found.
        most_changed: The largest distance from the target found.
        not_measured: Why a figure is None, a sentence each, by its name.
        seconds: What it took.
    """

    dimension: NotRequired[int | None]
    dimension_bound: NotRequired[int | None]
    kernel_within: NotRequired[bool | None]
    ball_radius: NotRequired[float | None]
    pixel_widths: PixelWidths | None
    far_pair: float | None
    most_changed: float | None
    not_measured: NotRequired[dict[str, str]]
    seconds: float


class ExactRecord(ExactFigures):
    """What ``exact.json`` holds: the vertices, what they took, and extents if they were wanted."""

    seconds: float
    extents: Extents | None


class HowFound(Ending):
    """How vertices were found.

    Attributes:
        neighbours: What was left out when neighbours were looked for, counted by its kind; None of
            free pixels.
        exact: What linear programs said; None if no programs were solved.
    """

    neighbours: dict[str, int] | None
    exact: ExactRecord | None


class Claims(CollisionGaps, HullClaims):
    """What is claimed of the vertices whose digest it names, beside their gaps.

    Attributes:
        others: Images that nobody made collide; None if none were measured. Files of the first
            version have them before the activation, as ``null``.
        degeneracy: The shape of the polytope.
        walk: Along its edges; None if none was walked.
        aimed: Samples where a failure is likely; missing if none were drawn, as without a proof.
        vertices_digest: Of the 8-bit vertices.
    """

    others: NotRequired[Controls | None]
    degeneracy: Degeneracy
    walk: EdgeWalks | None
    aimed: NotRequired[AimedSamples | None]
    vertices_digest: str


class Subject(TypedDict):
    """What a run is of: paths, names, what varies and by which method."""

    source: str
    target: str
    network: str
    layer: str
    parameterisation: str
    method: NotRequired[str]


class Costs(TypedDict):
    """What a run took, and what it came from; ``seconds`` by stage."""

    seconds: dict[str, float]
    peak_memory_bytes: int
    seed: int
    fingerprint: str
    versions: dict[str, str]


class Fallible(TypedDict, total=False):
    """Measures that the others can do without.

    Attributes:
        visibility: How large differences between vertices are where people look.
        closeness: How close vertices are to the source.
        driven_units: Of each vertex that was to drive a unit deeper; empty where none was.
        not_measured: Why a measure failed, a sentence each, by its name.
    """

    visibility: Visibility
    closeness: Closeness
    driven_units: list[DrivenUnit]
    not_measured: dict[str, str]


class Summary(Subject, PolytopeFigures, Fallible, HowFound, Costs):
    """What ``summary.json`` holds; files of older versions lack some of it.

    Attributes:
        certificate: What is claimed of the polytope.
        sample_classes: What its samples are taken for, most first.
        tightness: How tightly features of the samples agree with the target's, and what that is
            called.
        worst_found: The worst image between the vertices that gradients found, beside the samples.
        dataset_distance_mean: Of two random images of the data set, L2 in 0..255; None if unknown.
    """

    certificate: NotRequired[Claims]
    sample_classes: NotRequired[list[ClassCount]]
    tightness: NotRequired[TightnessBlock]
    worst_found: NotRequired[WorstFound]
    dataset_distance_mean: float | None
