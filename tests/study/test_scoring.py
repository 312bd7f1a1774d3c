"""Average@k of the lab's models: of the grades of their completions, in order, honest about truncation."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from qtarget import lab
from qtarget.evaluate.nouns import SamplingProtocol
from qtarget.study.scoring import score_model

WORLD = lab.world("strong-prior")
QUESTIONS = lab.questions(WORLD, 6, seed=0)
PINNED_SEEDS = [71672593160299860, 37024927903931057, 13264477204331664, 9028584699867058]
PINNED_TEXTS = [
    "0 * 9 = 0 therefore 0 - 7 = 3 therefore 3 + 1 = 4 therefore 4 - 8 = 6 therefore answer 6",
    "0 * 9 = 0 therefore 0 - 7 = 3 therefore 3 + 1 = 3 so 3 - 8 = 5 therefore answer 5",
]
PROTOCOL = SamplingProtocol("plain", k=4, max_new_tokens=WORLD.max_new_tokens, seed=1)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def teacher():
    return lab.load_teacher(WORLD)


@pytest.fixture(scope="module")
def tokenizer():
    return lab.tokenizer(WORLD)


def test_the_average_is_of_the_grades_of_the_completions(teacher, tokenizer):
    score = score_model(teacher, tokenizer, QUESTIONS, PROTOCOL)
    for question, completions, correct in zip(QUESTIONS, score.completions, score.correct, strict=True):
        assert correct == [completion.text.endswith(f"answer {question['answer']}") for completion in completions]
        assert correct == [lab.grade(question, completion.text) for completion in completions]
    assert score.average.mean == pytest.approx(sum(map(sum, score.correct)) / 24)
    assert 0 < score.average.mean < 1
    lengths = [completion.tokens for completions in score.completions for completion in completions]
    assert score.mean_tokens == pytest.approx(sum(lengths) / 24)
    assert json.loads(json.dumps(asdict(score)))["average"]["mean"] == score.average.mean


def test_a_score_is_repeated_whatever_the_batch_and_follows_the_seed(teacher, tokenizer):
    score = score_model(teacher, tokenizer, QUESTIONS, PROTOCOL)
    assert score_model(teacher, tokenizer, QUESTIONS, PROTOCOL, batch_questions=1) == score
    assert score_model(teacher, tokenizer, QUESTIONS, replace(PROTOCOL, seed=2)) != score


def test_the_samples_of_recorded_studies_are_drawn_again(teacher, tokenizer):
    """Pinned: the seeds are made of run seed, the question's place and the sample's number."""
    score = score_model(teacher, tokenizer, QUESTIONS[:2], PROTOCOL)
    assert [completion.request.seed for completion in score.completions[1]] == PINNED_SEEDS
    assert [completion.text for completion in score.completions[1][:2]] == PINNED_TEXTS


def test_cutting_completions_short_is_reported(teacher, tokenizer):
    whole = score_model(teacher, tokenizer, QUESTIONS, PROTOCOL)
    cut = score_model(teacher, tokenizer, QUESTIONS, replace(PROTOCOL, max_new_tokens=5))
    assert whole.truncated_share < 0.2
    assert (cut.truncated_share, cut.mean_tokens, cut.average.mean) == (1.0, 5.0, 0.0)
