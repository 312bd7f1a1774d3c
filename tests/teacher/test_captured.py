"""How much of a teacher is captured, and how many tokens would do, against distributions of which both are known."""

import pytest
import torch

from qtarget.data import Asker
from qtarget.teacher.cache.captured import ENOUGH, CapturedMass
from qtarget.teacher.distributions import KeptLogprobs

VOCABULARY = 50_000


def kept(prob_V: torch.Tensor, k: int) -> KeptLogprobs:
    """The K likeliest of one distribution, at three tokens of text."""
    logprobs = prob_V[:k].log().expand(3, k)
    none = torch.zeros(3)
    return KeptLogprobs(torch.arange(k).expand(3, k), logprobs, none, none, none)


def falling(exponent: float) -> torch.Tensor:
    prob_V = torch.arange(1, VOCABULARY + 1, dtype=torch.float64) ** -exponent
    return prob_V / prob_V.sum()


@pytest.mark.parametrize("exponent", [0.0, 0.5, 0.9, 1.0, 1.1, 1.3])
@pytest.mark.parametrize("k", [8, 64, 512])
def test_the_tokens_needed_are_those_that_hold_enough(exponent, k):
    prob_V = falling(exponent)
    found = CapturedMass.of(kept(prob_V, k), VOCABULARY)
    assert found is not None
    assert found.mean == pytest.approx(float(prob_V[:k].sum()), abs=1e-6)
    assert found.is_enough == (float(prob_V[:k].sum()) >= ENOUGH)
    if found.is_enough:
        assert found.warning("cache") is None
        return
    truth = int((prob_V.cumsum(0) < ENOUGH).sum()) + 1
    assert max(truth, 2 * k) / 2.2 <= found.tokens_needed <= max(2.2 * truth, 2 * k)
    assert f"`teacher_top_k: {found.tokens_needed}`" in str(found.warning("cache"))
    assert "write `TargetSFTConfig(teacher_top_k=128)`, by" in str(
        found.warning("cache", Asker.PYTHON.line("teacher_top_k", 128))
    )


def test_a_vocabulary_that_is_kept_whole_is_enough_whatever_rounding_says():
    found = CapturedMass.of(kept(torch.tensor([0.5, 0.2]), 2), 2)
    assert found is not None
    assert found.warning("cache") is None


def test_the_label_alone_and_no_text_are_nothing_to_speak_of():
    nothing = torch.zeros(0)
    assert CapturedMass.of(KeptLogprobs(torch.zeros(3, 0), torch.zeros(3, 0), nothing, nothing, nothing), 10) is None
    assert CapturedMass.of(KeptLogprobs(torch.zeros(0, 4), torch.zeros(0, 4), nothing, nothing, nothing), 10) is None


@pytest.mark.parametrize("k", [1, 2, 3])
def test_few_tokens_say_little_and_ask_for_more(k):
    found = CapturedMass.of(kept(falling(1.0), k), VOCABULARY)
    assert found is not None
    assert 2 * k <= found.tokens_needed <= VOCABULARY
