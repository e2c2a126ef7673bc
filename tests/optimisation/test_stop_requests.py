"""Signals stop a descent between steps and leave their handlers as they were."""

import signal
import threading

import pytest
import torch

from patchcollide.errors import DivergedError, InterruptedWorkError
from patchcollide.optimisation.checkpoints import Checkpoint
from patchcollide.optimisation.descent import find_vertices
from patchcollide.progress import stop_requests, termination_as_interrupt
from tests.helpers.descents import at_step, parameterise, task_for


def test_an_interruption_says_how_to_go_on(small_network, tmp_path):
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    at_step(small_network, 2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(
        InterruptedWorkError,
        match=r"the state is in .*checkpoint\.h5\. Run the same command again to go on",
    ):
        find_vertices(task_for(small_network), parameterise("pixels"), checkpoint)
    assert checkpoint.path.is_file()


def test_an_interruption_without_a_checkpoint_says_that_nothing_was_kept(small_network):
    task = task_for(small_network)
    at_step(small_network, 3, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(InterruptedWorkError, match="Stopped after 3 of 6 steps; nothing was kept"):
        find_vertices(task, parameterise("pixels"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_descent_that_is_over_when_it_is_to_stop_gives_its_vertices_back(small_network, number):
    task = task_for(small_network)
    expected, _ = find_vertices(task, parameterise("pixels"))
    at_step(small_network, 6, lambda: signal.raise_signal(number))
    with stop_requests() as around:
        vertices, progress = find_vertices(task, parameterise("pixels"))
        assert around.requested
    assert torch.equal(vertices, expected)
    assert progress.stopped_because == "all steps were done"


def test_work_that_stopped_does_not_ask_the_work_around_twice(small_network):
    at_step(small_network, 3, lambda: signal.raise_signal(signal.SIGINT))
    with stop_requests() as around:
        with pytest.raises(InterruptedWorkError, match="Stopped after 3 of 6 steps"):
            find_vertices(task_for(small_network), parameterise("pixels"))
        assert around.requested
        # The first is not taken for the second, which would raise at once.
        around.requested = False
        signal.raise_signal(signal.SIGINT)
        assert around.requested


def test_a_termination_ends_a_block_like_ctrl_c():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match=r"^$"), termination_as_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_request_stops_at_once_and_keeps_nothing(small_network, tmp_path):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    task = task_for(small_network)
    checkpoint = Checkpoint(tmp_path / "checkpoint.h5", "a")
    at_step(small_network, 1, twice)
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        find_vertices(task, parameterise("pixels"), checkpoint)
    assert not checkpoint.path.exists()


@pytest.mark.parametrize("ending", ["done", "stopped", "failed"])
def test_signal_handlers_are_as_before_when_the_descent_has_ended(small_network, ending):
    def handlers():
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    before, during = handlers(), []
    task = task_for(small_network, objective={"active": 1e38 if ending == "failed" else 1.0})
    at_step(small_network, 1, lambda: during.extend(handlers()))
    if ending == "stopped":
        at_step(small_network, 1, lambda: signal.raise_signal(signal.SIGTERM))
    if ending == "done":
        find_vertices(task, parameterise("pixels"))
    else:
        with pytest.raises((InterruptedWorkError, DivergedError), match=r"Stopped after 1|loss is"):
            find_vertices(task, parameterise("pixels"))
    assert len(during) == 2
    assert not set(during) & set(before)
    assert handlers() == before


def test_a_stop_request_is_unset_until_a_signal_comes():
    with stop_requests() as request:
        assert not request.requested
        signal.raise_signal(signal.SIGTERM)
        assert request.requested


def test_outside_the_main_thread_the_descent_runs_and_catches_no_signals(small_network):
    before = signal.getsignal(signal.SIGINT)
    found, during = [], []
    task = task_for(small_network)
    at_step(small_network, 1, lambda: during.append(signal.getsignal(signal.SIGINT)))
    thread = threading.Thread(
        target=lambda: found.append(find_vertices(task, parameterise("pixels")))
    )
    thread.start()
    thread.join()
    assert found[0][1].step == 6
    assert during == [before]
