"""What an audit's figures say of classes, of single images, and of trust in predictions."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from patchcollide.audit.documents import (
    Bin,
    ClassSummary,
    JudgedRecord,
    Record,
    Suspect,
    Trust,
)
from patchcollide.evaluation.intervals import (
    area_interval,
    area_under_roc,
    rank_correlation,
    wilson_interval,
)
from patchcollide.randomness import Purpose, seeded_numpy
from patchcollide.shapes import Float64, ndarray

OUTLIER = 3.5
"""Robust z-scores beyond this are outliers (Iglewicz and Hoaglin)."""
FEWEST_OF_CLASS = 5
"""Smaller classes are not judged, and none of their images is said to be unlike the rest."""
NUM_BINS = 4


def robust_scores(values: Float64[ndarray, "n"]) -> Float64[ndarray, "n"]:
    """Returns how many robust standard deviations values are from their median, signed.

    Where more than half of the values are equal, the mean absolute deviation takes the place of the
    median one; all are 0 if there is none either.

    Source:
        Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993.
    """
    away = values - np.median(values)
    deviation = 1.4826 * float(np.median(abs(away))) or 1.2533 * float(abs(away).mean())
    return np.asarray(away / deviation if deviation else 0 * away)


def add_findings(rows: Sequence[Record]) -> list[JudgedRecord]:
    """Adds to each image's figures how it stands among those of its label; largest size first."""
    members = defaultdict(list)
    for number, row in enumerate(rows):
        members[row["label"]].append(number)
    scores: dict[int, float] = {}
    expected = {}
    for label, numbers in members.items():
        expected[label] = _expected([rows[number] for number in numbers])
        if len(numbers) >= FEWEST_OF_CLASS:
            sizes = np.array([rows[number]["size"] for number in numbers], dtype=np.float64)
            scores |= dict(zip(numbers, robust_scores(sizes).tolist(), strict=True))
    found: list[JudgedRecord] = []
    for number, row in enumerate(rows):
        wanted, chance = expected[row["label"]], row["hull_label_probability"]
        found.append(
            {
                **row,
                "expected": wanted,
                "agrees": None if wanted is None else row["predicted"] == wanted,
                "size_z": scores.get(number),
                "label_doubt": None if chance is None else 1 - chance,
            }
        )
    return sorted(found, key=lambda row: (-row["size"], row["name"]))


def _expected(rows: Sequence[Record]) -> int | None:
    if rows[0]["label_class"] is not None:
        return int(rows[0]["label_class"])
    counts = Counter(row["predicted"] for row in rows).most_common(2)
    tied = len(counts) > 1 and counts[0][1] == counts[1][1]
    return None if tied else int(counts[0][0])


def summarise_classes(
    rows: Sequence[JudgedRecord], data_distance: float | None
) -> list[ClassSummary]:
    """Returns what is known of each label, that with the largest median size first.

    Of a label with one image there are no quartiles.
    """
    members = defaultdict(list)
    for row in rows:
        members[row["label"]].append(row)
    found: list[ClassSummary] = []
    for label, own in members.items():
        sizes = np.array([row["size"] for row in own])
        low, middle, high = np.quantile(sizes, [0.25, 0.5, 0.75]).tolist()
        # One image has no spread, rather than none at all.
        quartiles = [low, high] if len(own) > 1 else None
        judged = [row["agrees"] for row in own if row["agrees"] is not None]
        found.append(
            {
                "label": label,
                "num_images": len(own),
                "size_median": middle,
                "size_quartiles": quartiles,
                "size_share": middle / data_distance if data_distance else None,
                "agreement": float(np.mean(judged)) if judged else None,
                "hull_agreement": float(np.mean([row["hull_agreement"] for row in own])),
            }
        )
    return sorted(found, key=lambda row: (-row["size_median"], row["label"]))


def judged_classes(classes: Sequence[ClassSummary]) -> list[ClassSummary]:
    """Returns the classes with enough images to be judged by, in their order."""
    return [group for group in classes if group["num_images"] >= FEWEST_OF_CLASS]


def suspects(rows: Sequence[JudgedRecord]) -> list[Suspect]:
    """Returns images unlike their label: predicted otherwise, or of an outlying size.

    Those predicted otherwise come first, the most certain prediction first; then by how far their
    size is off.
    """

    def order(row: JudgedRecord) -> tuple[bool, float, str]:
        wrong = row["agrees"] is False
        return not wrong, -(row["probability"] if wrong else abs(row["size_z"] or 0.0)), row["name"]

    found = [(row["name"], _reasons(row)) for row in sorted(rows, key=order)]
    return [{"name": name, "reasons": reasons} for name, reasons in found if reasons]


def _reasons(row: JudgedRecord) -> list[str]:
    score, reasons = row["size_z"] or 0.0, []
    if row["agrees"] is False:
        reasons.append(f"predicted as {row['predicted_name'].split(',')[0]}")
    if abs(score) >= OUTLIER:
        reasons.append(f"polytope {'larger' if score > 0 else 'smaller'} than its class's")
    return reasons


def measure_trust(rows: Sequence[JudgedRecord], seed: int) -> Trust:
    """Holds sizes against how sure and how right predictions are."""
    ordered = sorted(rows, key=lambda row: row["size"])
    parts = np.array_split(np.arange(len(ordered)), min(NUM_BINS, len(ordered)))
    bins = [_bin([ordered[number] for number in part]) for part in parts]
    sizes = np.array([row["size"] for row in rows], dtype=np.float64)

    def correlation(values: Iterable[float]) -> float | None:
        return rank_correlation(sizes, np.array([*values], dtype=np.float64))

    judged = np.array([row["agrees"] is not None for row in rows])
    wrong = np.array([row["agrees"] is False for row in rows])[judged]
    area, interval = None, None
    if wrong.any() and not wrong.all():
        area = area_under_roc(sizes[judged], wrong)
        interval = area_interval(sizes[judged], wrong, seeded_numpy(seed, Purpose.TRUST))
    return {
        "bins": bins,
        "size_and_probability": correlation(row["probability"] for row in rows),
        "size_and_hull_probability": correlation(row["hull_probability"] for row in rows),
        "num_wrong": int(wrong.sum()),
        "num_judged": int(judged.sum()),
        "area": area,
        "area_interval": interval,
    }


def _bin(rows: Sequence[JudgedRecord]) -> Bin:
    judged = [row["agrees"] for row in rows if row["agrees"] is not None]
    return {
        "num_images": len(rows),
        "size_range": [rows[0]["size"], rows[-1]["size"]],
        "agreement": sum(judged) / len(judged) if judged else None,
        "agreement_interval": wilson_interval(sum(judged), len(judged)) if judged else None,
        "probability": float(np.mean([row["probability"] for row in rows])),
        "hull_probability": float(np.mean([row["hull_probability"] for row in rows])),
        "hull_agreement": float(np.mean([row["hull_agreement"] for row in rows])),
    }
