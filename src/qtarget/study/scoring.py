"""Average@k of a model in memory on questions of the lab: drawn, graded and averaged by the parts of `qtarget eval`."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from qtarget.evaluate.confidence import Estimate, average_at_k
from qtarget.evaluate.generators.sampling import complete, seed_of
from qtarget.evaluate.grading import LabGrader
from qtarget.evaluate.nouns import Completion, Question, Request, SamplingProtocol
from qtarget.evaluate.prompts import prompt_ids
from qtarget.evaluate.tasks.lab_sets import chains
from qtarget.lab import LabQuestion

BATCH_QUESTIONS = 64
"""Questions answered at once; a batch has this many times k sequences."""


@dataclass(frozen=True)
class ModelScore:
    """What a model scored.

    Attributes:
        truncated_share: share of the completions that were cut off before an end token. Where it is large, the score
            says little.
        mean_tokens: mean length of a completion, the end token included.
        correct, completions: by question and sample, [Q][k].
    """

    average: Estimate
    truncated_share: float
    mean_tokens: float
    correct: list[list[bool]]
    completions: list[list[Completion]]


def score_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[LabQuestion],
    protocol: SamplingProtocol,
    *,
    batch_questions: int = BATCH_QUESTIONS,
) -> ModelScore:
    """Draw ``protocol.k`` completions of every question, grade each, and take Average@k with its interval.

    A completion's random numbers come from the protocol's seed, the question's place and the sample's number, so the
    same model, questions, protocol, machine and versions give the same result.
    """
    asked, k, grader = chains(questions).questions, protocol.k, LabGrader()
    requests = _requests(asked, tokenizer, protocol)
    drawn: list[Completion] = []
    for start in range(0, len(requests), batch_questions * k):
        drawn += complete(model, tokenizer, requests[start : start + batch_questions * k], protocol)
    completions = [drawn[start : start + k] for start in range(0, len(drawn), k)]
    correct = [
        [grader.grade(question, completion.text).value == 1 for completion in row]
        for question, row in zip(asked, completions, strict=True)
    ]
    return ModelScore(
        average=average_at_k(correct, k),
        truncated_share=fmean(completion.finish == "length" for completion in drawn),
        mean_tokens=fmean(completion.tokens for completion in drawn),
        correct=correct,
        completions=completions,
    )


def _requests(
    questions: Sequence[Question], tokenizer: PreTrainedTokenizerBase, protocol: SamplingProtocol
) -> list[Request]:
    prompts = [prompt_ids(protocol.prompt, question, tokenizer) for question in questions]
    return [
        Request(question.qid, sample, seed_of(protocol.seed, str(place), sample), ids)
        for place, (question, ids) in enumerate(zip(questions, prompts, strict=True))
        for sample in range(protocol.k)
    ]
