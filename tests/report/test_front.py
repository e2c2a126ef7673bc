"""What a page says first: found, near, different, and nothing that was not measured."""

import pytest

from patchcollide.report.front import make_front
from patchcollide.report.proofs import known_between
from tests.helpers.pages import summary_of, tightness_of
from tests.helpers.presence import present


def front_of(verdict="feature collision", num_vertices=2, *, hull=(), **changes):
    block = tightness_of(verdict)
    block["hull"] |= dict(hull)
    return make_front(summary_of(num_vertices, tightness=block, **changes))


@pytest.mark.parametrize(
    ("verdict", "title"),
    [
        ("feature collision", "Feature collision at 0.4: features within 0.37 of the target's"),
        ("class collision", "Class collision: features up to 0.37 from the target's, not 0.4"),
        ("none", "No collision: 98.71\N{NARROW NO-BREAK SPACE}% of the samples are of the target"),
    ],
)
def test_the_title_is_the_verdict_with_its_number(verdict, title):
    assert front_of(verdict).title.startswith(title)


@pytest.mark.parametrize("verdict", ["feature collision", "class collision", "none"])
def test_only_a_collision_of_features_is_said_to_come_near(verdict):
    said = front_of(verdict).said
    is_near = verdict == "feature collision"
    assert ("their features at its layer a.layer are as near as asked" in said) == is_near
    assert ("not all are within the 0.4 of the target that was asked for" in said) == (not is_near)


def test_features_that_nothing_was_asked_of_are_near_only_if_they_are():
    block = tightness_of("feature collision", asked=False, gamma=0.1)
    assert "a.layer are near the target's" in make_front(summary_of(tightness=block)).said
    block = tightness_of("class collision", asked=False, gamma=0.1)
    said = make_front(summary_of(tightness=block)).said
    assert "not all are within the 0.1 of the target that a feature collision needs" in said


def test_all_samples_are_said_to_be_all_only_if_they_are():
    assert "takes all 1,999 samples between them" in front_of(success_rate=1.0).said
    assert "all" not in front_of(success_rate=0.99999).said.split()


def test_the_answers_are_numbers_and_what_they_are_of():
    front = front_of()
    assert present(front.near).value == "0.37"
    assert (
        "is tau of the farthest of 1,999 samples. Tau says how far features are"
        in present(front.near).text
    )
    assert "The target moved by 4 px is at 0.27." in present(front.near).text
    assert present(front.different).value == "19\N{NARROW NO-BREAK SPACE}%"
    assert "(L2 7,212 and 37,538)." in present(front.different).text
    # Two vertices that differ are not said to be far from the source, nor near to it.
    closeness = {"distance_mean": 0.35 * 37538.0}
    far = present(front_of(closeness=closeness).different).text
    assert far.endswith("37,538). The source is 35\N{NARROW NO-BREAK SPACE}% away.")


def test_what_was_not_measured_is_not_answered():
    front = make_front(summary_of(dataset_distance_mean=None))
    assert front.title == "church → cleaver"
    assert "was not measured" in front.said
    assert front.near is None
    assert present(front.different).value == "7,212"
    assert front_of(num_vertices=1).different is None
    assert "no bound" in front_of("class collision", hull={"tau_max": None}).title


def test_vertices_are_said_to_be_made_as_they_were():
    assert front_of().made == (
        "Two vertices were composed of patches of other images that are like the source's: "
        "corners of a polytope, with their weighted means between them"
    )
    assert front_of(parameterisation="pixels", num_vertices=12).made.startswith("12 vertices were")
    assert front_of(num_vertices=1).made.startswith("One image was composed")
    exact = {"active": 1}
    pixels = front_of(exact=exact, parameterisation="pixels", num_vertices=1).made
    assert pixels.endswith("over all pixels")
    assert "coefficients" in front_of(exact=exact, parameterisation="exact patches").made


def proof_of(result="proved", **changes):
    known = {"gamma": 0.4, "share_proved": 0.4567, "tau": {"proved": 0.3801}}
    return {"result": result, "rounding": False, **known, **changes}


def known_of(*proofs, tau=None, **changes):
    claims = {} if tau is None else {"tau_at_vertices": tau}
    if proofs:
        claims["proofs"] = {str(number): proof for number, proof in enumerate(proofs)}
    summary = summary_of(certificate=claims, **changes)
    return {
        line.how: line.what.replace("\N{NARROW NO-BREAK SPACE}", " ")
        for line in known_between(summary)
    }


def test_what_was_only_sampled_is_said_to_be_proved_of_nothing():
    worst = {"margin": 0.5, "probability": 0.697}
    assert known_of(worst_found=worst) == {
        "Proved": "nothing",
        "Sampled": "at least 98.1 % of all images between are of the target's class (95 % "
        "confidence); so is the worst that gradients found, with probability 0.697",
    }
    assert known_of(worst_found=worst | {"margin": -0.1})["Sampled"].endswith(
        "; not so the worst that gradients found"
    )
    assert known_of()["Sampled"].endswith("(95 % confidence)")
    # What is 98.19 % at least is not said to be 98.2 %.
    assert "98.1 %" in known_of(success_interval=[0.9819, 1.0])["Sampled"]


@pytest.mark.parametrize(
    ("proofs", "said"),
    [
        (
            [proof_of()],
            (
                "every image between the vertices, before rounding to 8 bits, is of class cleaver "
                "and its features within 0.39 of the target's"
            ),
        ),
        (
            [proof_of(), proof_of(rounding=True, gamma=None, tau={"proved": None})],
            "every image between the vertices, rounded to 8 bits in any way, is of class cleaver",
        ),
        (
            [proof_of("open")],
            "class cleaver for 45.6 % of the images between, before rounding to 8 bits",
        ),
        ([proof_of("open", share_proved=0.0)], "nothing"),
        ([proof_of("open", share_proved=0.0004)], "nothing"),
    ],
)
def test_what_is_proved_is_what_the_proof_says(proofs, said):
    assert known_of(*proofs)["Proved"] == said


def test_what_is_refuted_is_not_said_to_be_proved():
    known = known_of(proof_of(), proof_of("refuted", rounding=True))
    assert known["Refuted"] == (
        "that every image between the vertices, rounded to 8 bits in any way, is of class cleaver "
        "and its features within 0.4 of the target's"
    )
    assert known["Proved"] == "nothing"


def test_features_of_affine_layers_are_proved_and_their_bound_is_rounded_up():
    features = (
        "no features between the vertices, before rounding to 8 bits, are farther than tau 0.031, "
        "as the layer is affine in the image"
    )
    assert known_of(tau=0.03001)["Proved"] == features
    assert known_of(proof_of("open"), tau=0.03001)["Proved"].endswith(f"bits; {features}")
    # The proof of the hull has said that already.
    assert "affine" not in known_of(proof_of(), tau=0.03001)["Proved"]
    assert "affine" in known_of(proof_of(tau={"proved": None}), tau=0.03001)["Proved"]


def test_nothing_lies_between_one_vertex():
    assert make_front(summary_of(1)).known == ()
