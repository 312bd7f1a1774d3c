"""Forgetting and calibration against brute force on tiny models, and on cases whose numbers are known."""

import itertools
import math
from dataclasses import asdict

import pytest
import tiny_models
import torch

from qtarget import lab
from qtarget.evaluate.effects import (
    Effects,
    TokenRow,
    base_text,
    calibration,
    divergence,
    effects_of,
    forgetting,
    reliability,
    token_row,
)
from qtarget.evaluate.nouns import Answers, Question, Record, SamplingProtocol, TaskFacts

WORLD = lab.world("weak-operator")
ROWS = [TokenRow((7, 9, 11, 13), 2), TokenRow((5, 6, 7, 8, 9, 10, 11), 3), TokenRow((20, 21), 1), TokenRow((30, 31), 0)]


@pytest.fixture(scope="module")
def base():
    return tiny_models.tiny_model(seed=0).eval()


@pytest.fixture(scope="module")
def tuned():
    return tiny_models.tiny_model(seed=1).eval()


def brute_force(model, rows):
    """log p of every looked-at token's whole distribution, one row at a time, without padding, through the logits."""
    found, labels = [], []
    for row in rows:
        logits = model(torch.tensor([row.ids])).logits[0].double()
        first = max(row.start, 1)
        found.append(logits[first - 1 : -1].log_softmax(-1))
        labels += row.ids[first:]
    return torch.cat(found), torch.tensor(labels)


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_divergence_is_the_mean_over_tokens_of_the_whole_distributions(base, tuned, batch_size):
    (p, labels), (q, _) = brute_force(base, ROWS), brute_force(tuned, ROWS)
    found = divergence(tuned, base, ROWS, batch_size=batch_size)
    assert found.kl == pytest.approx((p.exp() * (p - q)).sum(-1).mean().item(), rel=1e-5)
    assert found.nll == pytest.approx(torch.nn.functional.nll_loss(q, labels).item(), rel=1e-5)
    assert found.base_nll == pytest.approx(torch.nn.functional.nll_loss(p, labels).item(), rel=1e-5)
    assert (found.tokens, found.texts) == (2 + 4 + 1 + 1, 4)


@torch.no_grad()
def test_chunks_of_the_vocabulary_change_nothing(base, tuned, monkeypatch):
    whole = asdict(divergence(tuned, base, ROWS))
    monkeypatch.setattr("qtarget.evaluate.effects.logprobs._CHUNK_BYTES", 8 * tiny_models.VOCAB * 3)
    assert asdict(divergence(tuned, base, ROWS)) == pytest.approx(whole)


def test_a_model_has_forgotten_nothing_of_itself(base):
    found = divergence(base, base, ROWS)
    assert found.kl == 0
    assert found.nll == found.base_nll


def test_an_output_layer_with_more_padding_is_cut_to_the_others(base):
    wider = tiny_models.tiny_model(seed=0, vocab=tiny_models.VOCAB)
    wider.resize_token_embeddings(tiny_models.VOCAB + 28, mean_resizing=False)
    wider.get_output_embeddings().weight.data[tiny_models.VOCAB :] = 50.0
    assert divergence(wider.eval(), base, ROWS).kl == pytest.approx(0, abs=1e-9)


def test_the_drawn_tokens_estimate_the_divergence():
    """E over the base's own tokens of nll − base_nll is the KL, on the lab's student and teacher."""
    student, teacher, tokenizer = lab.load_student(WORLD), lab.load_teacher(WORLD), lab.tokenizer(WORLD)
    prompts = [question["prompt"] for question in lab.questions(WORLD, 300, seed=0)]
    found = forgetting(teacher, student, tokenizer, prompts, max_new_tokens=40)
    assert found.kl > 0.1
    assert found.nll - found.base_nll == pytest.approx(found.kl, rel=0.1)


def test_the_text_is_the_bases_and_does_not_depend_on_the_batch():
    student, tokenizer = lab.load_student(WORLD), lab.tokenizer(WORLD)
    prompts = [question["prompt"] for question in lab.questions(WORLD, 9, seed=0)]
    rows = base_text(student, tokenizer, prompts, max_new_tokens=40)
    assert [tokenizer.decode(row.ids[: row.start]) for row in rows] == [
        tokenizer.decode(tokenizer(p).input_ids) for p in prompts
    ]
    assert rows == base_text(
        student, tokenizer, [tokenizer(p).input_ids for p in prompts], max_new_tokens=40, batch_size=2
    )
    assert rows != base_text(student, tokenizer, prompts, max_new_tokens=40, seed=1)
    assert rows[0].ids[-1] == tokenizer.eos_token_id or len(rows[0].ids) - rows[0].start == 40


@torch.no_grad()
@pytest.mark.parametrize("batch_size", [1, 64])
def test_calibration_is_that_of_every_token_by_itself(base, batch_size):
    logp, labels = brute_force(base, ROWS)
    top, token = logp.max(-1)
    edges = [b / 15 for b in range(16)]
    ece = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (top.exp() > low) & (top.exp() <= high)
        if inside.any():
            gap = (token[inside] == labels[inside]).double().mean() - top[inside].exp().mean()
            ece += inside.double().mean().item() * abs(gap.item())
    found = calibration(base, ROWS, batch_size=batch_size)
    assert found.ece == pytest.approx(ece, rel=1e-5)
    assert found.nll == pytest.approx(torch.nn.functional.nll_loss(logp, labels).item(), rel=1e-5)
    assert sum(one.tokens for one in found.bins) == found.tokens == 8


def test_a_known_calibration_error():
    """Sure to 0.9 and right 6 times in 10; sure to 0.5 and right every time: (20·0.3 + 10·0.5)/30."""
    confidence = torch.tensor([0.9] * 20 + [0.5] * 10, dtype=torch.float64)
    is_right = torch.tensor(([1] * 6 + [0] * 4) * 2 + [1] * 10)
    found = reliability(confidence, is_right)
    assert found.ece == pytest.approx(11 / 30)
    assert found.overconfidence == pytest.approx((20 * 0.9 + 5) / 30 - 22 / 30)
    assert [(one.tokens, round(one.confidence, 9), one.accuracy) for one in found.bins] == [
        (10, 0.5, 1.0),
        (20, 0.9, 0.6),
    ]
    assert all(one.low < one.confidence <= one.high for one in found.bins)


def test_the_edges_of_the_bins_belong_below_and_certainty_to_the_last():
    bins = reliability(torch.tensor([1 / 15, 2 / 15, 1.0], dtype=torch.float64), torch.tensor([0, 0, 1])).bins
    assert [round(one.high * 15) for one in bins] == [1, 2, 15]


def test_a_calibrated_model_has_no_error():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(200_000, generator=generator, dtype=torch.float64)
    is_right = torch.rand(200_000, generator=generator, dtype=torch.float64) < confidence
    assert reliability(confidence, is_right).ece < 0.01


def test_reference_text_is_looked_at_from_the_completion_to_the_end_token():
    tokenizer = tiny_models.tiny_tokenizer()
    row = token_row(tokenizer, "w1 w2 ", "w3 w4")
    assert tokenizer.convert_ids_to_tokens(row.ids) == ["w1", "w2", "w3", "w4", "<eos>"]
    assert row == token_row(tokenizer, "w1 w2 ", "w3 w4<eos>")
    assert row.start == 2


def answers(*questions):
    """[Q][k] of (extracted, grade, completion, tokens, finish)."""
    made = [
        tuple(
            Record("t", "s", str(q), i, 0, "p", text, finish, tokens, found, grade, "ok", "m", "g", "r")
            for i, (found, grade, text, tokens, finish) in enumerate(own)
        )
        for q, own in enumerate(questions)
    ]
    asked = tuple(Question(str(q), "?", "4") for q in range(len(questions)))
    return Answers(TaskFacts("t", 1, "lab", "lab"), SamplingProtocol("plain", k=2), asked, tuple(made))


def test_effects_of_answers():
    found = effects_of(
        answers(
            [("4", 1, "a 4", 2, "stop"), ("5", 0, "a 5", 4, "length")],
            [(None, 0, "x", 6, "length"), (None, None, "x", 8, "length")],
        )
    )
    assert found == Effects(
        truncated=0.75, learned_stop=False, distinct_answers=1.0, distinct_texts=1.5, spread=0.25, mean_tokens=5.0
    )


def test_samples_that_agree_have_no_spread():
    found = effects_of(answers([("4", 1, "a", 1, "stop")] * 2, [("5", 0, "b", 1, "stop")] * 2))
    assert (found.spread, found.distinct_answers, found.learned_stop) == (0, 1, True)
    with pytest.raises(ValueError, match="no samples of t"):
        effects_of(answers([]))


def test_no_text_is_refused(base):
    with pytest.raises(ValueError, match="no token to look at"):
        calibration(base, [TokenRow((5, 6), 2)])
    with pytest.raises(ValueError, match="at least one prompt"):
        divergence(base, base, [])
    assert math.isfinite(divergence(base, base, ROWS).nll)
