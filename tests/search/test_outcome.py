"""What a search comes to: which arm `best.yaml` holds, and what is said of it."""

import pytest

from qtarget.search.race import ScoreDifference
from qtarget.search.search_outcome import Confirmation, advised, reason_of
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
