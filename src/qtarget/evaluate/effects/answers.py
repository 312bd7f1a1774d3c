"""Effects that the answers alone show: length, the stop token, how much the samples of a question differ."""

from dataclasses import dataclass
from statistics import fmean

from qtarget.evaluate.nouns import Answers


@dataclass(frozen=True)
class Effects:
    """Means over the samples, or over the questions, of one task.

    Attributes:
        truncated: share of samples cut off at the limit.
        learned_stop: whether more than half of the samples ended by themselves.
        distinct_answers: different answers to a question, over its k samples; those without an answer do not count.
        distinct_texts: different completions of a question.
        spread: pass@k less Average@k, what more than one sample is worth. 0 where all samples of a question agree.
        mean_tokens: of a completion, the end token included.
    """

    truncated: float
    learned_stop: bool
    distinct_answers: float
    distinct_texts: float
    spread: float
    mean_tokens: float


def effects_of(answers: Answers) -> Effects:
    """The effects that a task's answers show. Samples of unknown grade count as not right."""
    every = [record for records in answers.records for record in records]
    if not every:
        raise ValueError(f"There are no samples of {answers.task.name}; draw them with `qtarget eval`.")
    truncated = fmean(record.finish_reason == "length" for record in every)
    right = [[record.grade == 1 for record in records] for records in answers.records if records]
    return Effects(
        truncated=truncated,
        learned_stop=truncated < 0.5,
        distinct_answers=fmean(len({r.extracted for r in records} - {None}) for records in answers.records),
        distinct_texts=fmean(len({r.completion for r in records}) for records in answers.records),
        spread=fmean(any(grades) for grades in right) - fmean(map(fmean, right)),
        mean_tokens=fmean(record.n_tokens for record in every),
    )
