"""What a search comes to: which arm `best.yaml` holds, and what is said of it."""

import pytest

from qtarget.search.race import ScoreDifference, Standing
from qtarget.search.search_outcome import (
    ArmRecord,
    Confirmation,
    advised,
    confirmation_failed,
    contestants,
    finding,
    lacks_other,
    reason_of,
)
from qtarget.search.search_runs import RunResult
from qtarget.search.search_space import SearchArm

KD, SFT = SearchArm(1, {"method": "kd"}), SearchArm(2, {"method": "sft"})
UNCLEAR = "won the race and is not told from sft in the confirmation: the better guess, not a finding"
CASES = {
    "for it": (0.2, 0.1, 0.3, KD, "won the race, and is clearly ahead in the confirmation"),
    "unclear, behind": (-0.05, -0.34, 0.24, KD, UNCLEAR),
    "unclear, ahead": (0.05, -0.24, 0.34, KD, UNCLEAR),
    "no difference": (0.0, -0.14, 0.14, SFT, "scores exactly what kd does in the confirmation, and is the simpler arm"),
    "against it": (-0.2, -0.3, -0.1, SFT, "is clearly ahead in the confirmation of kd, which won the race"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_races_winner_is_kept_unless_the_confirmation_is_clearly_against_it(case: str):
    mean, low, high, best, reason = CASES[case]
    found = Confirmation(0.5 + mean, 0.5, ScoreDifference(mean, low, high, 0.5), 3, 50)
    assert advised(KD, SFT, found, "kd") is best
    assert reason_of(KD, SFT, found, "kd") == reason


FOUND = {
    "for it": "kd is better than sft (sft) at 8 steps: +0.200 [+0.100, +0.300], over 3 fresh seeds and 50 questions",
    "unclear, behind": "No arm is found to be better than sft at 8 steps: the confirmation does not tell kd from sft",
    "unclear, ahead": "No arm is found to be better than sft at 8 steps: the confirmation does not tell kd from sft",
    "no difference": "No arm is found to be better than sft at 8 steps: the confirmation does not tell kd from sft",
    "against it": "No arm is better than sft at 8 steps: kd minus sft is -0.200 [-0.300, -0.100]",
}


@pytest.mark.parametrize("case", CASES)
def test_the_sentence_claims_no_more_than_the_interval(case: str):
    mean, low, high, *_ = CASES[case]
    found = Confirmation(0.5 + mean, 0.5, ScoreDifference(mean, low, high, 0.5), 3, 50)
    assert finding(KD, SFT, found, 8, "kd", "question").startswith(FOUND[case])


def test_of_arms_alike_in_the_race_sft_is_the_winner():
    for records in ([ArmRecord(KD, RACED), ArmRecord(SFT, RACED)], [ArmRecord(SFT, RACED), ArmRecord(KD, RACED)]):
        assert contestants(records, "kd") == (SFT, KD)


def test_a_winner_without_a_confirmation_is_kept_and_that_is_said():
    assert advised(KD, None, None, "kd") is KD
    assert reason_of(KD, None, None, "kd") == "won the race, and was not confirmed"
    assert advised(KD, SFT, None, "kd") is KD


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
