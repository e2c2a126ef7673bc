"""What is proven does not follow the modes of PyTorch that its caller is in."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import torch

from patchcollide.errors import WorkError
from patchcollide.torch_modes import proof_modes
from tests.helpers.modes import TORCH_MODES, RoundedMode, torch_state
from tests.helpers.presence import present

IN_PROOFS = {"grad": False, "inference": False, "autocast": [False, False], "dtype": torch.float32}
IN_PROOFS |= {"function modes": [], "dispatch modes": 0, "flushed": False, "precision": "highest"}


def own_settings() -> list[str]:
    """What each operation shows once everything above it says something else."""
    if not hasattr(torch._C, "_set_fp32_precision_setter"):
        return []
    shown, change = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter
    found = []
    for backend in ("mkldnn", "cuda"):
        operations = ("all", "matmul", "conv")
        before = shown("generic", "all")
        change("generic", "all", "bf16")
        found += [shown(backend, operation) for operation in operations]
        change("generic", "all", before)
    return found


@pytest.mark.parametrize("name", TORCH_MODES)
def test_every_mode_of_the_caller_is_left_and_restored(name):
    with TORCH_MODES[name]():
        before, own = torch_state(), own_settings()
        with proof_modes():
            within = torch_state()
            product = torch.full((70, 70), 1 + 2.0**-20) @ torch.eye(70)
            assert product.dtype == torch.float32
            assert (product.numpy() == 1 + 2.0**-20).all()
        assert torch_state() == before
        assert own_settings() == own
    assert {key: within[key] for key in IN_PROOFS} == IN_PROOFS
    assert set(within["backends"][3:6]) <= {"none", "ieee"}
    assert within["deterministic"] == before["deterministic"]
    assert within["threads"] == before["threads"]


def test_all_modes_at_once_are_left_and_restored_even_after_an_error():
    within = {}

    @proof_modes(grad=True)
    def fail():
        within.update(torch_state())
        raise KeyError("lost")

    with ExitStack() as stack:
        for enter in TORCH_MODES.values():
            stack.enter_context(enter())
        before = torch_state()
        with pytest.raises(KeyError, match="lost"):
            fail()
        assert torch_state() == before
    assert {key: within[key] for key in IN_PROOFS} == IN_PROOFS | {"grad": True}


def test_gradients_are_recorded_where_they_are_asked_for():
    with torch.inference_mode(), proof_modes(grad=True):
        x = torch.ones(2, requires_grad=True)
        (x * x).sum().backward()
    assert present(x.grad).tolist() == [2, 2]


def test_it_decorates_functions():
    @proof_modes()
    def total():
        return torch.ones(3) @ torch.ones(3)

    with torch.autocast("cpu", torch.bfloat16):
        assert total().dtype == torch.float32


def test_modes_can_be_entered_within_each_other_and_within_a_proof():
    with torch.device("meta"), proof_modes():
        with RoundedMode(), proof_modes(grad=True):
            assert torch.ones(1).device.type == "cpu"
            assert torch.is_grad_enabled()
        with torch.device("meta"):
            assert torch.ones(1).is_meta
        assert not torch.ones(1).is_meta


def test_a_default_device_of_the_networks_type_stays():
    with torch.device("meta"), proof_modes(device="meta"):
        assert torch.ones(1).is_meta
    with torch.device("meta"), RoundedMode(), proof_modes(device="meta"):
        assert torch_state()["function modes"][0].device.type == "meta"
        assert len(torch_state()["function modes"]) == 1
    assert not torch_state()["function modes"]


def test_the_last_thread_restores_what_the_first_one_changed():
    # The first to enter leaves first: the second must not see the caller's modes again.
    entered, left = threading.Event(), threading.Event()

    def second():
        with proof_modes():
            entered.set()
            left.wait(10)
            return torch_state()

    with TORCH_MODES["medium precision"](), TORCH_MODES["float64"]():
        with ThreadPoolExecutor(1) as threads:
            with proof_modes():
                found = threads.submit(second)
                entered.wait(10)
            left.set()
            within = found.result()
        after = torch_state()
    assert (within["precision"], within["dtype"]) == ("highest", torch.float32)
    assert (after["precision"], after["dtype"]) == ("medium", torch.float64)


def test_many_threads_leave_the_modes_as_they_were():
    def work(number):
        for _ in range(20):
            with proof_modes():
                if torch.get_float32_matmul_precision() != "highest":
                    return number
        return None

    with TORCH_MODES["medium precision"]():
        before = torch_state()
        with ThreadPoolExecutor(4) as threads:
            assert set(threads.map(work, range(16))) == {None}
        assert torch_state() == before


def test_precision_lost_meanwhile_is_an_error_and_stays_as_it_was_set():
    @proof_modes()
    def lose():
        torch.set_float32_matmul_precision("medium")

    with TORCH_MODES["medium precision"]():
        with pytest.raises(WorkError, match="another thread made them less precise"):
            lose()
        assert torch.get_float32_matmul_precision() == "medium"
        with proof_modes():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"


def test_precision_lost_meanwhile_is_set_again_for_the_next_to_enter():
    with TORCH_MODES["medium precision"](), proof_modes():
        torch.set_float32_matmul_precision("high")
        with proof_modes():
            assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == "highest"
