"""Average@k of a model on a list of questions: sample, grade, summarise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from qtarget.evaluate.generators.sampling import Sample, Sampling, SamplingProgress, sample_completions
from qtarget.evaluate.statistics import Estimate, average_at_k

Question = Mapping[str, Any]  # "prompt", and whatever the grader reads, such as "answer"
Grader = Callable[[Question, str], bool]  # (question, completion text) -> right or wrong


@dataclass(frozen=True)
class Evaluation:
    """What one arm scored. `dataclasses.asdict` of it is plain JSON."""

    average: Estimate
    truncated_share: float  # of all completions, those without an end-of-sequence token
    mean_tokens: float  # per completion, the end token included
    sampling: Sampling
    correct: list[list[bool]]  # [Q][k]
    samples: list[list[Sample]]  # [Q][k]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    grader: Grader,
    sampling: Sampling,
    progress: SamplingProgress | None = None,
) -> Evaluation:
    """Sample ``sampling.k`` completions of every question, grade each, and take Average@k with its interval.

    `questions` are mappings with a ``"prompt"``; the grader gets the whole question and the completion's
    text, without special tokens. The same model, questions and sampling give the same result (see
    `sample_completions`). A score is as good as its completions are whole: look at `truncated_share` first.
    """
    samples = sample_completions(model, tokenizer, [q["prompt"] for q in questions], sampling, progress)
    correct = [
        [grader(question, sample.text) for sample in drawn] for question, drawn in zip(questions, samples, strict=True)
    ]
    every = [sample for drawn in samples for sample in drawn]
    return Evaluation(
        average=average_at_k(correct, sampling.k),
        truncated_share=fmean(sample.truncated for sample in every),
        mean_tokens=fmean(sample.num_tokens for sample in every),
        sampling=sampling,
        correct=correct,
        samples=samples,
    )
