"""What a search comes to: which arm `best.yaml` holds, and what is said of it."""

import pytest

from qtarget.search.race import ScoreDifference, Standing
from qtarget.search.search_outcome import (
    ArmRecord,
    Confirmation,
    advised,
    confirmation_failed,
    contestants,
    lacks_other,
    reason_of,
)
from qtarget.search.search_runs import RunResult
from qtarget.search.search_space import SearchArm

KD, SFT = SearchArm(1, {"method": "kd"}), SearchArm(2, {"method": "sft"})
CASES = {
    "for it": (0.2, 0.1, 0.3, KD, "won the race, and is clearly ahead in the confirmation"),
    "unclear, behind": (-0.05, -0.34, 0.24, KD, "won the race, and the confirmation does not tell it from sft"),
    "unclear, ahead": (0.05, -0.24, 0.34, KD, "won the race, and the confirmation does not tell it from sft"),
    "against it": (-0.2, -0.3, -0.1, SFT, "is clearly ahead in the confirmation of kd, which won the race"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_races_winner_is_kept_unless_the_confirmation_is_clearly_against_it(case: str):
    mean, low, high, best, reason = CASES[case]
    found = Confirmation(0.5 + mean, 0.5, ScoreDifference(mean, low, high, 0.5), 3, 50)
    assert advised(KD, SFT, found) is best
    assert reason_of(KD, SFT, found) == reason


def test_a_winner_without_a_confirmation_is_kept_and_that_is_said():
    assert advised(KD, None, None) is KD
    assert reason_of(KD, None, None) == "won the race, and was not confirmed"
    assert advised(KD, SFT, None) is KD


RACED = (Standing(0.5, 0.0, 0.0, 0.0, 1.0),)
ALONE = {
    "all are sft": ([ArmRecord(SFT, RACED)], SFT, "every arm is sft, so nothing was compared with it"),
    "sft failed": (
        [ArmRecord(KD, RACED), ArmRecord(SFT, (), "its loss is nan")],
        KD,
        "no sft arm finished a rung (sft: its loss is nan), so nothing is known against sft",
    ),
    "all but sft failed": (
        [ArmRecord(KD, (), "no weights"), ArmRecord(SFT, RACED)],
        SFT,
        "no arm but sft finished a rung (kd: no weights), so nothing is known of any other",
    ),
}


@pytest.mark.parametrize("case", ALONE)
def test_why_a_winner_has_no_other_beside_it_is_said_truly(case: str):
    records, best, said = ALONE[case]
    winner, other = contestants(records, "kd")
    assert (winner, other) == (best, None)
    assert lacks_other(records, winner, "kd") == said


def test_a_confirmation_that_failed_says_which_of_the_two_arms_did():
    done, gone = RunResult((1.0, 0.0)), RunResult(failed="no weights")
    both = "at every seed of the confirmation kd (no weights) and sft (no weights) failed"
    assert confirmation_failed({KD: [gone, gone], SFT: [gone, gone]}).startswith(both)
    one = confirmation_failed({KD: [done, done], SFT: [gone, gone]})
    assert one.startswith("at every seed of the confirmation sft (no weights) failed, so nothing is known beyond")
    turns = confirmation_failed({KD: [done, gone], SFT: [gone, done]})
    assert turns.startswith("one of the two arms failed at every seed of the confirmation")
