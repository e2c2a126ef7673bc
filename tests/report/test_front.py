"""What a page says first: found, near, different, and nothing that was not measured."""

import pytest

from patchcollide.report.front import make_front
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
    assert ("their features at its layer a.layer are near the target's" in said) == is_near
    assert ("not all are within the 0.4 of the target that was asked for" in said) == (not is_near)


def test_all_samples_are_said_to_be_all_only_if_they_are():
    assert "takes all 1,999 images sampled between them" in front_of(success_rate=1.0).said
    assert "all" not in front_of(success_rate=0.99999).said.split()


def test_the_answers_are_numbers_and_what_they_are_of():
    front = front_of()
    assert present(front.near).value == "0.37"
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
        "Two images, the vertices, were composed of those patches of other images that are like "
        "the source's"
    )
    assert front_of(parameterisation="pixels", num_vertices=12).made.startswith("12 images, the")
    assert front_of(num_vertices=1).made.startswith("One image was composed")
    exact = {"active": 1}
    assert front_of(exact=exact, parameterisation="pixels").made.endswith("over all pixels")
    assert "coefficients" in front_of(exact=exact, parameterisation="exact patches").made
