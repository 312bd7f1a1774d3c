"""Numbers that a key may hold: the bound that an error names is the bound."""

import pytest

from qtarget.job.config.ranges import range_complaints

ALMOST_ONE = 0.99999999999


@pytest.mark.failure_case(25)
@pytest.mark.parametrize("key", ["adam_beta1", "adam_beta2", "lora_dropout"])
def test_what_is_less_than_one_is_taken_and_one_is_not(key):
    assert list(range_complaints({key: ALMOST_ONE})) == []
    for number in (1, 1.0, 2, -0.1):
        [(_, said)] = range_complaints({key: number})
        assert "expected 0 or more, and less than 1" in said
