"""The likeliest tokens of some mass, beside transformers' own, which sorts the whole vocabulary."""

import pytest
import torch
from transformers import TopPLogitsWarper

from qtarget.evaluate.generators.nucleus import LOOKED_AT, Nucleus


def logits(spread: float, vocabulary: int, rows: int = 40, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(rows, vocabulary, generator=torch.manual_seed(3)) * spread).to(dtype)


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.95, 0.999])
@pytest.mark.parametrize("vocabulary", [5, LOOKED_AT, LOOKED_AT + 1, 30_000])
@pytest.mark.parametrize("spread", [0.01, 1.0, 6.0])
def test_keeps_what_transformers_keeps(spread, vocabulary, top_p):
    scores = logits(spread, vocabulary)
    ours, theirs = Nucleus(top_p)(None, scores), TopPLogitsWarper(top_p)(None, scores)
    is_kept = theirs.isfinite()
    unlike = (ours.isfinite() != is_kept).sum(-1)
    assert (unlike <= (1 if top_p < 0.99 else 2)).all()  # at the very edge of the mass rounding decides
    assert unlike.sum() <= len(scores) / 10
    both = ours.isfinite() & is_kept
    assert torch.equal(ours[both], scores[both])
    assert torch.equal(ours.argmax(-1), scores.argmax(-1))


def test_one_row_whose_nucleus_is_wide_does_not_change_what_another_keeps():
    scores = logits(8.0, 20_000)
    alone = Nucleus(0.9)(None, scores)
    scores[7] = 0.0
    beside = Nucleus(0.9)(None, scores)
    assert beside[7].isfinite().sum() == pytest.approx(18_000, abs=20)
    others = [row for row in range(len(scores)) if row != 7]
    assert torch.equal(beside[others].isfinite(), alone[others].isfinite())


def test_the_logits_that_came_are_left_as_they_were():
    scores = logits(3.0, 4000)
    before = scores.clone()
    Nucleus(0.5)(None, scores)
    assert torch.equal(scores, before)


def test_half_precision_keeps_the_mass():
    scores = logits(4.0, 9000, dtype=torch.bfloat16)
    kept = Nucleus(0.9)(None, scores).isfinite()
    mass = (scores.float().softmax(-1) * kept).sum(-1)
    assert (mass >= 0.9 - 1e-5).all()
