import threading

import pytest
import torch

from patchcollide.evaluation.asking import asked, askers
from patchcollide.evaluation.sampling import sample_classes, sample_hull
from patchcollide.networks.targets import TargetFeatures


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def vertices(small_network):
    generator = torch.Generator().manual_seed(1)
    side = small_network.input_size
    return torch.rand((3, small_network.channels, side, side), generator=generator)


def batches(vertices, count=6):
    return [vertices.roll(number, dims=0)[:2] for number in range(count)]


def logits_of(network, images):
    return list(asked(network, images, lambda each: each, lambda output: output.logits))


def test_answers_come_in_the_order_of_their_batches(small_network, vertices, two_threads):
    images = batches(vertices)
    found = logits_of(small_network, images)
    with torch.no_grad():
        expected = [small_network(each).logits for each in images]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_several_threads_ask_at_once_each_a_network_of_its_own(
    small_network, vertices, two_threads
):
    several = askers(small_network, 6)
    assert len(several) == 2
    assert several[0] is small_network
    assert several[1].module is not small_network.module
    assert next(several[1].module.parameters()) is next(small_network.module.parameters())
    met, seen = threading.Barrier(2, timeout=10), []

    def images_of(images):
        met.wait()  # Nobody gets past it alone.
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return images

    list(asked(small_network, batches(vertices), images_of, lambda output: output.logits))
    assert len({thread for thread, _ in seen}) == 2
    assert {count for _, count in seen} == {1}
    assert torch.get_num_threads() == 2


def test_copies_are_made_once(small_network, two_threads):
    assert askers(small_network, 6)[1] is askers(small_network, 3)[1]


def test_one_batch_is_asked_about_here_with_all_threads(small_network, vertices, two_threads):
    assert askers(small_network, 1) == [small_network]
    seen = []

    def images_of(images):
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return images

    list(asked(small_network, batches(vertices, 1), images_of, lambda output: output.logits))
    assert seen == [(threading.get_ident(), 2)]


def test_a_network_that_cannot_be_copied_is_asked_by_one_thread(
    small_network, vertices, two_threads
):
    small_network.module.lock = threading.Lock()
    assert askers(small_network, 6) == [small_network]
    assert len(logits_of(small_network, batches(vertices))) == 6


def test_what_fails_in_a_thread_is_raised_here(small_network, vertices, two_threads):
    def images_of(images):
        raise ValueError("no images")

    with pytest.raises(ValueError, match="no images"):
        list(asked(small_network, batches(vertices), images_of, lambda output: output))
    assert torch.get_num_threads() == 2


def test_samples_are_the_same_by_any_number_of_threads(small_network, vertices):
    target = TargetFeatures.of(
        small_network(vertices[:1]).pre_activation[0].detach(), small_network.blind
    )
    weights = torch.rand(23, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    weights /= weights.sum(dim=1, keepdim=True)
    before, found = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        asked_about = small_network, vertices, weights, 1, target
        samples, gaps, alike = sample_hull(*asked_about, batch_size=4)
        classes = sample_classes(*asked_about, batch_size=4)
        columns = [*vars(samples).values(), *vars(classes).values()]
        columns += [each.numpy() for part in (gaps, alike) for each in vars(part).values()]
        found.append([column.tobytes() for column in columns])
    torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_who_wants_no_more_answers_leaves_nothing_behind(small_network, vertices, two_threads):
    begun: list[int] = []

    def images_of(images):
        begun.append(len(images))
        return images

    answers = asked(small_network, batches(vertices, 40), images_of, lambda output: output.logits)
    next(answers)
    del answers
    assert len(begun) < 40
    assert torch.get_num_threads() == 2
