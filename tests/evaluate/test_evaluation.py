"""Sampling and grading with real models: repeatable, unaffected by padding, honest about truncation."""

import json
from collections import Counter
from dataclasses import asdict, replace

import pytest
import torch

from qtarget import lab
from qtarget.evaluate import Sampling, evaluate, sample_completions

WORLD = lab.world("strong-prior")
QUESTIONS = lab.questions(WORLD, 6, seed=0)
PROMPTS = [question["prompt"] for question in QUESTIONS]
SAMPLING = Sampling(k=4, max_new_tokens=WORLD.max_new_tokens, batch_size=4, seed=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def student():
    return lab.load_student(WORLD)


@pytest.fixture(scope="module")
def teacher():
    return lab.load_teacher(WORLD)


@pytest.fixture(scope="module")
def tokenizer():
    return lab.tokenizer(WORLD)


def test_a_rerun_repeats_every_completion_whatever_the_callers_random_state(student, tokenizer):
    torch.manual_seed(0)
    first = sample_completions(student, tokenizer, PROMPTS, SAMPLING)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert sample_completions(student, tokenizer, PROMPTS, SAMPLING) == first
    assert torch.equal(torch.get_rng_state(), state)
    assert sample_completions(student, tokenizer, PROMPTS, replace(SAMPLING, seed=2)) != first


def test_every_prompt_gets_k_samples_and_batches_differ(student, tokenizer):
    drawn = sample_completions(student, tokenizer, [PROMPTS[0]] * 8, SAMPLING)
    assert [len(samples) for samples in drawn] == [4] * 8
    assert drawn[:4] != drawn[4:]  # both batches hold the same prompts, but not the same draws


def test_samples_follow_the_models_whole_distribution(student, tokenizer):
    """First tokens of 4000 draws, at temperature 2, against the softmax; the prompt is left-padded."""
    prompts, k = [PROMPTS[0], "1 + 1 + 1 + 1 + 1 + 1 ?"], 4000
    drawn = sample_completions(student, tokenizer, prompts, Sampling(k=k, temperature=2.0, max_new_tokens=1))
    ids = tokenizer(prompts[0], return_tensors="pt").input_ids
    expected = (student.eval()(ids).logits[0, -1] / 2.0).softmax(-1)
    counts = Counter(tokenizer.convert_tokens_to_ids(sample.text) for sample in drawn[0] if sample.text)
    for token, count in counts.items():
        assert count / k == pytest.approx(expected[token].item(), abs=0.03)
    assert len(counts) > 50  # a top-k of 50, the usual default, would cut the tail


def test_a_completion_does_not_depend_on_what_stands_beside_it(student, tokenizer):
    """Nor on the batch size: each has random numbers of its own. Prompts of other lengths pad it."""
    together = sample_completions(student, tokenizer, [*PROMPTS, "1 + 1 + 1 + 1 + 1 + 1 ?"], SAMPLING)
    assert sample_completions(student, tokenizer, PROMPTS, replace(SAMPLING, batch_size=1)) == together[:6]


def test_at_temperature_0_the_likeliest_token_is_taken(student, tokenizer):
    greedy = sample_completions(student, tokenizer, PROMPTS[:2], replace(SAMPLING, temperature=0.0, max_new_tokens=1))
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    likeliest = student.eval()(ids).logits[0, -1].argmax().item()
    assert {sample.text for sample in greedy[0]} == {tokenizer.decode(likeliest)}


def test_top_p_takes_the_tail_away(student, tokenizer):
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    shares, order = (student.eval()(ids).logits[0, -1] / 2.0).softmax(-1).sort(descending=True)
    kept = {
        tokenizer.decode(token) for token, before in zip(order, shares.cumsum(0) - shares, strict=True) if before < 0.5
    }
    sampling = Sampling(k=300, temperature=2.0, max_new_tokens=1, top_p=0.5)
    drawn = sample_completions(student, tokenizer, PROMPTS[:1], sampling)
    assert {sample.text for sample in drawn[0]} == kept


@pytest.mark.parametrize(
    "own", [{"repetition_penalty": 3.0}, {"min_new_tokens": 30}, {"no_repeat_ngram_size": 2}, {"top_k": 1}]
)
def test_what_the_models_own_generation_config_says_besides_its_end_token_is_not_looked_at(tokenizer, own):
    plain, other = lab.load_student(WORLD), lab.load_student(WORLD)
    other.generation_config.update(**own)
    drawn = [sample_completions(model, tokenizer, PROMPTS[:2], SAMPLING) for model in (plain, other)]
    assert drawn[0] == drawn[1]
    assert {name: getattr(other.generation_config, name) for name in own} == own


def test_cutting_a_completion_short_is_reported(teacher, tokenizer):
    whole = evaluate(teacher, tokenizer, QUESTIONS, lab.grade, SAMPLING)
    cut = evaluate(teacher, tokenizer, QUESTIONS, lab.grade, replace(SAMPLING, max_new_tokens=5))
    assert whole.truncated_share < 0.2
    assert (cut.truncated_share, cut.mean_tokens, cut.average.mean) == (1.0, 5.0, 0.0)


def test_tokens_are_counted_to_the_end_token_and_text_has_none(teacher, tokenizer):
    for samples in sample_completions(teacher, tokenizer, PROMPTS, SAMPLING):
        for sample in samples:
            assert "<" not in sample.text
            assert sample.num_tokens == len(sample.text.split()) + (not sample.truncated)


def test_the_average_is_of_the_grades_of_the_samples(teacher, tokenizer):
    result = evaluate(teacher, tokenizer, QUESTIONS, lab.grade, SAMPLING)
    for question, samples, correct in zip(QUESTIONS, result.samples, result.correct, strict=True):
        assert correct == [sample.text.endswith(f"answer {question['answer']}") for sample in samples]
    assert result.average.mean == pytest.approx(sum(map(sum, result.correct)) / 24)
    assert 0 < result.average.mean < 1
    lengths = [sample.num_tokens for samples in result.samples for sample in samples]
    assert result.mean_tokens == pytest.approx(sum(lengths) / 24)
    assert json.loads(json.dumps(asdict(result)))["average"]["mean"] == result.average.mean


def test_the_model_is_left_in_the_mode_it_came_in(student, tokenizer):
    for training in (True, False):
        student.train(training)
        sample_completions(student, tokenizer, PROMPTS[:1], replace(SAMPLING, max_new_tokens=1))
        assert student.training is training


def test_progress_counts_prompts(student, tokenizer):
    seen = []
    sample_completions(
        student,
        tokenizer,
        PROMPTS,
        replace(SAMPLING, max_new_tokens=1),
        lambda done, total: seen.append((done, total)),
    )
    assert seen == [(4, 6), (6, 6)]


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"temperature": -0.1}, {"top_p": 0.0}, {"max_new_tokens": 0}, {"batch_size": 0}]
)
def test_settings_that_cannot_sample_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)
