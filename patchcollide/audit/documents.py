"""What an audit's files hold: a record an image, and the findings in ``audit.json``."""

from typing import Any, TypedDict

_Encoded = TypedDict("_Encoded", {"encoding-type": str, "encoding-version": int})

Interval = tuple[float, float]
"""Of 95 %; a list when it was read from a file."""


class Figures(TypedDict):
    """What :func:`patchcollide.audit.sizes.measure_polytope` finds of an image's polytope.

    Attributes:
        predicted: The class that the network takes the image for.
        predicted_name: Its name.
        probability: Of that class.
        margin: Over the next class.
        label_class: The network's class that the image should have, if that is known.
        label_probability: Of that class.
        size: The polytope's, in 0..255; see there.
        vertex_distance: Mean L2 distance of two vertices, in 0..255.
        feature_distance_relative: Mean tau of points between the vertices
            (:mod:`patchcollide.evaluation.feature_distances`); None if infinite.
        hull_agreement: The share of these points that get the predicted class.
        hull_probability: Their mean probability of that class.
        hull_label_probability: Of the label's.
        visible_share: Between vertices rounded to 8 bits, as the next two are
            (:mod:`patchcollide.evaluation.visibility`).
        coarse_share: See there.
        ssim_mean: See there.
        active: Units that respond to the image.
    """

    predicted: int
    predicted_name: str
    probability: float
    margin: float
    label_class: int | None
    label_probability: float | None
    size: float
    vertex_distance: float
    feature_distance_relative: float | None
    hull_agreement: float
    hull_probability: float
    hull_label_probability: float | None
    visible_share: float | None
    coarse_share: float | None
    ssim_mean: float | None
    active: int


class Record(Figures):
    """An image that was measured.

    Attributes:
        name: Its path in the folder.
        label: The folder it lies in.
        sha256: Of its file.
        is_fitted: Whether it had another size.
        pictures: Names of the files of the image and of some vertices.
        seconds: What measuring it took.
    """

    name: str
    label: str
    sha256: str
    is_fitted: bool
    pictures: list[str]
    seconds: float


class Failure(TypedDict):
    """An image that could not be measured, and why."""

    name: str
    not_measured: str


class JudgedRecord(Record):
    """A record beside those of its label.

    Attributes:
        expected: The label's class: by its name or, of labels that are named unlike any class,
            what most of its images are predicted as; None for a tie.
        agrees: Whether that is predicted.
        size_z: Robust z-score of the size within the label; None in classes of fewer than five.
        label_doubt: 1 less the mean probability of the label's class between the vertices, where
            its name is known.
    """

    expected: int | None
    agrees: bool | None
    size_z: float | None
    label_doubt: float | None


class Row(JudgedRecord):
    """An image in the ranking.

    Attributes:
        size_share: The size as a share of the distance of random images.
        blindness: See :mod:`patchcollide.audit.adequacy`.
    """

    size_share: float | None
    blindness: float


class Suspect(TypedDict):
    """An image unlike its label, and why it is thought so."""

    name: str
    reasons: list[str]


class Skipped(TypedDict):
    """An image that was left out, and why."""

    name: str
    reason: str


class ClassSummary(TypedDict):
    """What is known of the images of a label; quartiles only of several."""

    label: str
    num_images: int
    size_median: float
    size_quartiles: list[float] | None
    size_share: float | None
    agreement: float | None
    hull_agreement: float


class Bin(TypedDict):
    """The images of a quarter of the sizes: means, and the share predicted as their label."""

    num_images: int
    size_range: list[float]
    agreement: float | None
    agreement_interval: list[float] | None
    probability: float
    hull_probability: float
    hull_agreement: float


class Trust(TypedDict):
    """How sizes go with how sure and how right predictions are.

    Attributes:
        bins: Quarters of the images by size, smallest first.
        size_and_probability: Rank correlation; None where one is constant or of fewer than three.
        size_and_hull_probability: Likewise.
        num_wrong: Images predicted unlike their label.
        num_judged: Of so many.
        area: The chance that a wrong prediction's polytope is larger than a right one's; None
            unless there are both.
        area_interval: None where resampling gives none.
    """

    bins: list[Bin]
    size_and_probability: float | None
    size_and_hull_probability: float | None
    num_wrong: int
    num_judged: int
    area: float | None
    area_interval: Interval | None


class Adequacy(TypedDict):
    """The adequacy of a network and what it is made of: means over images, in 0..1.

    Attributes:
        score: See :mod:`patchcollide.audit.adequacy`.
        interval: Its 95 % interval over images; None where it has none, as of a single image.
        size: Sizes as shares of that of all images.
        certainty: The probability of the predicted class between the vertices.
        visibility: The share of the vertices' distance that is in coarse detail.
        num_images: How many images.
    """

    score: float
    interval: Interval | None
    size: float
    certainty: float
    visibility: float
    num_images: int


class Audit(_Encoded):
    """What ``audit.json`` holds.

    Attributes:
        fingerprint: Of the run.
        images: The largest first.
        network: Its name and its weights'.
        layer: The layer under study.
        command: What made the audit.
        folder: The images', as it was given.
        network_digest: Of the network.
        method: ``exact`` or ``search``.
        seed: Of all that is drawn.
        settings: All settings.
        versions: Of the libraries.
        images_digest: Of the images.
        num_found: Images in the folder.
        skipped: Those that cannot be read or measured.
        data_distance: Mean distance of random images; None of one.
        whole_size: See :func:`patchcollide.audit.adequacy.whole_size`.
        agreement: The share of images predicted as their label; None if nothing is known of it.
        named_labels: Labels that are names of classes.
        adequacy: Of the network.
        classes: The labels, that with the largest median size first.
        suspects: Images unlike their label.
        trust: What sizes say of predictions.
        seconds: What measuring took.
    """

    fingerprint: str
    images: list[Row]
    network: str
    layer: str
    command: str
    folder: str | None
    network_digest: str
    method: str
    seed: int
    settings: dict[str, Any]
    versions: dict[str, str]
    images_digest: str
    num_found: int
    skipped: list[Skipped]
    data_distance: float | None
    whole_size: float
    agreement: float | None
    named_labels: list[str]
    adequacy: Adequacy
    classes: list[ClassSummary]
    suspects: list[Suspect]
    trust: Trust
    seconds: float
