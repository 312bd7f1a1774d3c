"""Two ranks, of which one is killed, fails, hangs, or cannot write: the others stop, the terminal says once why, and
the last sealed checkpoint stands. `QTARGET_CHAOS=1` tries the siblings too."""

import os
import signal
from typing import Any, NamedTuple

import pytest
import torch
from job.launched import Launched, OnRank, launched
from job.stopped import Signalling
from job.test_killed import AtEvent
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from qtarget.outcomes import Termination, stopped_by
from qtarget.train.resumption.whole_checkpoints import checkpoint_fault, last_checkpoint

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and sends signals")
chaos = pytest.mark.skipif(not os.environ.get("QTARGET_CHAOS"), reason="a sibling; QTARGET_CHAOS=1 tries it")
ALONE = ("train", "config.yaml", "--teacher", "null", "--method", "dft", "--eta", "null", "--eval-dataset", "null")
ON_CPUS = (*ALONE, "--use-cpu", "true")
TRAIN = (*ON_CPUS, "--max-steps", "6")
KEPT = "The last whole checkpoint is out/checkpoint-2; "


class Raising(NamedTuple):
    """An error, or whatever a function does, at the `call`-th call of the collator, 0 being the first."""

    call: int
    happen: Any

    def install(self) -> None:
        collate, calls = DataCollatorForLanguageModeling.torch_call, []

        def calling(*args: Any, **kwargs: Any) -> Any:
            calls.append(None)
            if len(calls) == self.call + 1:
                if isinstance(self.happen, Exception):
                    raise self.happen
                self.happen()
            return collate(*args, **kwargs)

        DataCollatorForLanguageModeling.torch_call = calling


def stepping(number: int) -> Signalling:
    """A signal in the third step."""
    return Signalling(torch.optim.AdamW, "step", 2, number=number)


def check_stands(here, said: Launched) -> None:
    """Nobody had to be killed, nothing says that a connection closed, and what is there is whole."""
    assert said.killed == []
    assert "gloo" not in said.err
    assert "before it was done" not in said.err
    assert last_checkpoint(here / "out") == here / "out" / "checkpoint-2"
    assert checkpoint_fault(here / "out" / "checkpoint-2") is None


@pytest.mark.failure_case(1)
@pytest.mark.parametrize("has_agent", [True, pytest.param(False, marks=chaos)])
@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=chaos)])
def test_a_rank_that_is_killed_is_named(here, has_agent, rank):
    said = launched(TRAIN, OnRank(rank, stepping(signal.SIGKILL)), folder=here, has_agent=has_agent)
    assert (said.codes[rank], said.codes[1 - rank]) == (-signal.SIGKILL, 1)
    if has_agent or rank == 1:
        assert said.err.count(f"rank {rank} (process ") == 1
        assert "has ended without a word: it was killed, as the system does where memory runs out" in said.err
    else:
        assert said.err.count("rank 0 has ended, and with it the store of the ranks") == 1
    assert f"\n{KEPT}the step after it is lost. Go on with the same command and" in said.err
    assert "Traceback" not in said.err
    check_stands(here, said)


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=chaos)])
def test_an_error_of_one_rank_is_said_once_and_by_it(here, rank):
    said = launched(TRAIN, OnRank(rank, Raising(3, ValueError("a row is wrong"))), folder=here)
    assert said.codes == [1, 1]
    assert said.err.count("a row is wrong") == 1
    assert ("rank 1: a row is wrong\n" if rank else "a row is wrong\n") + KEPT in said.ranks[rank].err
    assert "Traceback" not in said.err
    check_stands(here, said)


@chaos
@pytest.mark.parametrize("has_agent", [True, False])
def test_a_fault_of_one_rank_keeps_its_traceback_and_there_is_no_other(here, has_agent):
    said = launched(TRAIN, OnRank(1, Raising(3, ZeroDivisionError("by zero"))), folder=here, has_agent=has_agent)
    assert said.codes[0] == 1
    assert said.ranks[1].err.startswith("rank 1: Traceback")
    assert "Traceback" not in said.ranks[0].err
    check_stands(here, said)


def hang() -> None:
    """Until SIGTERM comes, or ten minutes have passed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    signal.sigtimedwait({signal.SIGTERM}, 600)


def test_a_rank_that_hangs_stops_the_others_within_ddp_timeout(here):
    said = launched([*TRAIN, "--ddp-timeout", "30"], OnRank(1, Raising(3, hang)), folder=here)
    assert said.codes[0] == 1
    assert "does not answer, though it runs: it hangs, or computes for long" in said.err
    assert said.err.count("rank 1 (process ") == 1
    check_stands(here, said)


@pytest.mark.failure_case(23)
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=chaos)])
@pytest.mark.parametrize("ranks", [(0, 1), pytest.param((1,), marks=chaos)])
def test_a_signal_leaves_one_sealed_checkpoint_and_one_message(here, number, ranks):
    said = launched(TRAIN, *(OnRank(rank, stepping(number)) for rank in ranks), folder=here)
    assert said.codes == [128 + number] * 2
    assert said.err.count("stopped by") == 1
    assert "after step 4 of 6. Nothing is lost: out/checkpoint-4 holds all of it." in said.err
    assert last_checkpoint(here / "out") == here / "out" / "checkpoint-4"


FULL_DISK = OnRank(0, AtEvent(3, fills_disk=True))


@pytest.mark.failure_case(21)
def test_a_disk_that_is_full_at_one_rank_stops_both_and_is_said_once(here):
    said = launched(TRAIN, FULL_DISK, folder=here)
    assert said.codes == [75, 75]
    assert said.err.count("out/checkpoint-4 could not be written, and nothing of it is kept.") == 1
    assert "On rank 0: " in said.err
    assert "Traceback" not in said.err
    check_stands(here, said)


@chaos
def test_or_both_go_on(here):
    said = launched([*TRAIN, "--on-save-error", "continue"], FULL_DISK, folder=here)
    assert said.codes == [0, 0], said.err
    assert said.err.count("out/checkpoint-4 could not be written") == 1
    assert not (here / "out" / "checkpoint-4").exists()


@pytest.mark.failure_case(1)
@pytest.mark.parametrize("event", [2, *(pytest.param(event, marks=chaos) for event in (0, 1, 3, 4, 5, 6, 7))])
@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=chaos)])
def test_a_rank_that_is_killed_in_a_save_leaves_no_checkpoint_that_looks_whole(here, rank, event):
    """Of rank 1 the events are those of its own files: it has written some of them, and there is no manifest."""
    said = launched(TRAIN, OnRank(rank, AtEvent(event)), folder=here)
    if said.codes[rank] == 0:
        return  # it has no event of this number
    assert said.codes[rank] == -signal.SIGKILL
    assert not (here / "out" / "checkpoint-4").exists() or checkpoint_fault(here / "out" / "checkpoint-4") is None
    assert f"rank {rank} (process " in said.err
    assert said.codes[1 - rank] == 1
    assert said.killed == []


@chaos
def test_ranks_that_would_train_each_for_itself_are_refused(here):
    said = launched(ALONE, folder=here)
    assert said.codes == [2, 2]
    assert said.err == (
        "2 processes were started together, and each would train alone, as there is no accelerator; write "
        "`use_cpu: true` (or --use-cpu true), or start one process.\n"
    )


def test_a_signal_that_follows_an_error_of_another_rank_is_not_given_for_the_reason(here):
    """As the launcher sends it; here the rank that it comes to waits for it, in its preparation."""
    refused = OnRank(0, Raising(0, ValueError("a row is wrong")))
    said = launched(TRAIN, refused, OnRank(1, Raising(0, wait_for_termination)), folder=here)
    assert said.codes[0] == 1
    assert "a row is wrong" in said.err
    assert "stopped by" not in said.err


def wait_for_termination() -> None:
    """Until SIGTERM, and then as before the first step."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt as stopped:
        raise stopped_by(Termination(), "before the first step") from stopped
