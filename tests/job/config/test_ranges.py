"""Numbers that a key may hold: the bound that an error names is the bound."""

from typing import get_type_hints

import pytest

from qtarget.job.config.ranges import SAMPLE_RANGES, range_complaints, sample_range_complaints
from qtarget.job.config.sample_options import SampleOptions

ALMOST_ONE = 0.99999999999


@pytest.mark.failure_case(25)
@pytest.mark.parametrize("key", ["adam_beta1", "adam_beta2", "lora_dropout"])
def test_what_is_less_than_one_is_taken_and_one_is_not(key):
    assert list(range_complaints({key: ALMOST_ONE})) == []
    for number in (1, 1.0, 2, -0.1):
        [(_, said)] = range_complaints({key: number})
        assert "expected 0 or more and less than 1" in said


def test_every_number_of_a_sampling_has_a_range_in_the_words_of_the_others():
    hints = get_type_hints(SampleOptions)
    assert {key for key, hint in hints.items() if hint in (int | None, float | None)} == set(SAMPLE_RANGES)
    for key, allowed in SAMPLE_RANGES.items():
        line = f"`sample: {{{key}: {allowed.example}}}`"
        assert list(sample_range_complaints({key: allowed.example})) == []
        [(_, said)] = sample_range_complaints({key: -1})
        assert said == f"`sample: {{{key}: -1}}` is out of range; expected {allowed.words()}, as in {line}."
        [(_, said)] = sample_range_complaints({key: True})
        assert said == f"`sample: {{{key}}}` stands without a number; write {line}."


@pytest.mark.parametrize(("share", "is_taken"), [(0, False), (1e-9, True), (1, True), (1.0000001, False)])
def test_a_share_of_mass_is_above_0_and_at_most_1(share, is_taken):
    said = [sentence for _, sentence in sample_range_complaints({"top_p": share})]
    assert (said == []) == is_taken
    assert is_taken or "expected a number above 0 and at most 1" in said[0]
