"""Claims and the visibility of differences, on the page and as plain text."""

import json
from pathlib import Path

import numpy as np
import pytest

from patchcollide.errors import RunError
from patchcollide.report.claims import aligned, claim_lines, walk_sentence
from patchcollide.report.closeups import make_closeups
from patchcollide.report.live import make_live
from patchcollide.report.page import render_page
from patchcollide.report.tables import comparison_rows
from tests.helpers.pages import Page, png_of, random_images, summary_of

FIGURES = (
    "feature_distance",
    "feature_distance_relative",
    "active_feature_gap_mean",
    "active_feature_gap_max",
    "active_feature_gap_mean_relative",
    "active_feature_gap_max_relative",
    "inactive_response_share",
    "inactive_response_mean",
    "inactive_response_max",
)


def edge_of(**changes):
    edge = {
        "edge": [0, 3],
        "sampled_margin": 1.23456,
        "worst_margin": 1.11111,
        "worst_at": 0.4375,
        "is_exact": True,
        "complete": False,
        "share_walked": 1.25e-5,
        "num_pieces": 64,
    }
    return edge | changes


def walk_of(*edges, **changes):
    walk = {
        "worst_margin": 1.11111,
        "is_exact": True,
        "num_edges": len(edges),
        "num_samples": 33,
        "num_pieces": 64,
        "complete": False,
        "share_walked": 1.25e-5,
        "edges": list(edges),
    }
    return walk | changes


def claimed(*, others=True, walk=None, num_vertices=2):
    def figures(mean, largest):
        return {name: {"mean": mean, "max": largest} for name in FIGURES}

    quantiles = {name: [0.111, 0.222, 0.333] for name in FIGURES}
    claims = {
        "hull": figures(0.0123, 0.0456),
        "hull_unrounded": figures(0.01, 0.0443),
        "vertices": figures(0.02, 0.0512),
        "vertices_unrounded": figures(0.02, 0.05),
        "source": dict.fromkeys(FIGURES, 0.777),
        "others": {
            "num_images": 7,
            "num_left_out": 1,
            "distances": [0.9, 1.1, 1.2, 1.3, 1.4, 1.5, None],
            "quantiles": quantiles,
            "controls": {"silent features": 1.0, "nearest image": 0.9},
            "num_nearer": {"hull_mean": 0, "hull_worst": 2},
            "is_near": {"hull_mean": True, "hull_worst": False},
            "num_pairs": 21,
            "pair_quantiles": [0.8, 1.234, 1.5],
        }
        if others
        else None,
        "degeneracy": {
            "affine_rank": 1,
            "full_rank": 1,
            "rank_tolerance": 0.01,
            "relative_volume": 0.625,
        },
        "walk": walk,
    }
    visibility = {
        "coarse_rms": 17.25,
        "coarse_share": 0.456,
        "coarse_px": 4.0,
        "yardsticks": {
            "noise": {"coarse_rms": 2.71, "visible_share": 0.51, "ssim_mean": 0.361},
            "brightness": {"coarse_rms": 39.9, "visible_share": 1.0, "ssim_mean": 0.962},
        },
        "ssim_mean": 0.654,
        "ssim_min": 0.543,
        "visible_share": 0.4321,
        "bands": [{"side_px": 1, "share": 0.7}, {"side_px": 2, "share": 0.2}],
        "mean_colour_share": 0.1,
        "halved": [{"halvings": 0, "rms": 21.5}],
    }
    return summary_of(num_vertices, certificate=claims, visibility=visibility)


def words_of(summary):
    rng = np.random.default_rng(3)
    names = ["source", "target"]
    names += [f"vertex-{number}" for number in range(summary["num_vertices"])]
    page = render_page(
        summary=summary,
        config={},
        images={name: png_of(random_images(rng, 12, 14)) for name in names},
        closeups=make_closeups(random_images(rng, summary["num_vertices"], 12, 14)),
        history_svg="",
        samples_svg="",
        live=make_live(summary, None, None, 1),
        comparison=comparison_rows(summary, of_digits=False),
        command="patchcollide collide",
    )
    return Page(page).words


def test_the_page_shows_gaps_beside_other_images():
    words = words_of(claimed())
    assert "beside images that nobody made collide (7 images)" in words
    assert "Of 7 images of the data set, 0 are nearer" in words
    assert "than the hull's mean sample, 2 than its worst one." in words
    assert "Features that say nothing at all would be nearer than 6 of them" in words
    assert "mean sample is nearer than all controls, its worst one is not nearer than all" in words
    assert "features are the target's own: 1." in words
    assert "% from each other, in the same unit (median of 21 pairs)." in words
    assert "active units, mean gap 0.0123 0.0456 0.0443 0.0512 0.777 0.111 / 0.222 / 0.333" in words
    assert "inactive units that respond 1.23" in words
    assert "span 1 of 1 dimensions" in words
    assert "has 0.625 of the volume of a regular one" in words
    assert "No edge was walked; patchcollide certify does." in words


def test_the_page_says_when_there_were_no_other_images():
    words = words_of(claimed(others=False))
    assert "not measured: there was no store to take images from" in words
    assert "0.777 not measured" in words
    assert "The controls are" not in words


def test_a_run_that_was_measured_before_the_activation_says_so():
    summary = json.loads((Path(__file__).parent.parent / "golden/run-v1/summary.json").read_text())
    words = words_of(summary)
    assert "Each vertex against the target, before the layer's activation" in words
    assert "This run was measured by an older version, before the layer's activation" in words
    assert "active units, mean gap before the activation 0.442" in words
    assert "distance of features" not in words
    assert "as means over blocks that lie on a grid (an older version's measure)" in words
    lines = list(claim_lines(summary))
    assert any(line.startswith("active units, mean gap before the activation") for line in lines)


def test_the_page_shows_every_walk():
    walk = walk_of(edge_of(), edge_of(edge=[1, 2], is_exact=False, share_walked=0, num_pieces=0))
    words = words_of(claimed(walk=walk))
    assert "0 to 3 1.2346 1.1111 0.437500 yes 64 0.00125 %" in words
    assert "1 to 2 1.2346 1.1111 0.437500 no 0 0 %" in words
    assert "0.0013 % of the edges' length was walked (64 linear pieces)" in words


def test_the_page_shows_what_people_can_see():
    words = words_of(claimed())
    assert "0.654 on average, 0.543 for the least alike" in words
    assert "differ by 17.2 of 255 in coarse detail" in words
    assert "noise of 12 grey levels: 2.7, brightness changed by 40: 39.9." in words
    assert "the noise alone gives 0.361, the brightness 0.962." in words
    assert "share 70.0" in words
    assert "left after halving 21.5" in words


@pytest.mark.parametrize("num_vertices", [1, 2])
def test_a_run_without_claims_has_a_page(num_vertices):
    words = words_of(summary_of(num_vertices))
    assert "Claims" not in words
    assert "What people can see" not in words


def test_one_vertex_has_gaps_but_no_shape():
    words = words_of(claimed(num_vertices=1))
    assert "Gaps" in words
    assert "dimensions" not in words
    assert "What people can see" not in words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"complete": True}, "Every piece of every edge was walked: there is none smaller"),
        ({}, "walked: next to it there is none smaller. 0.0013 % of the edges' length was walked"),
        ({"is_exact": False}, "which is a sample. 0.0013 %"),
    ],
)
def test_a_walk_claims_no_more_than_it_covered(changes, words):
    sentence = walk_sentence(walk_of(edge_of(), **changes))
    assert words in sentence
    assert ("samples an edge only" in sentence) != bool(changes.get("complete"))


def test_the_terminal_gets_the_same_figures():
    text = "\n".join(claim_lines(claimed(walk=walk_of(edge_of()))))
    for words in ("active units, mean gap", "0.111 / 0.222 / 0.333", "0 to 3", "33 samples"):
        assert words in text
    assert "No edge was walked." in list(claim_lines(claimed()))


def test_columns_are_aligned():
    assert list(aligned([("a", "bb"), ("ccc", "d")])) == ["a    bb", "ccc   d"]


def test_a_summary_without_claims_has_no_lines():
    with pytest.raises(RunError, match=r"no claims\. Evaluate the run again"):
        list(claim_lines(summary_of()))
