"""Training on the student's own words: the right ones among its samples, drawn once or anew in every round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from qtarget import lab
from qtarget.evaluate.nouns import SamplingProtocol
from qtarget.lab import Demonstration, LabQuestion, World
from qtarget.study.scoring import score_model

SAMPLES_IN_ALL = 8
"""Samples of each prompt, over all rounds."""
ROUND_SEED = 100_000
"""Apart so far are the random numbers of two rounds."""


@dataclass(frozen=True)
class OwnSampling:
    """How a training takes what its student says.

    Attributes:
        rounds: samplings, each followed by its share of the steps.
        start: what a round's student begins as: the untouched student ("base"), or that of the round before ("last").
    """

    rounds: int
    start: str = "base"

    @classmethod
    def of(cls, knobs: Mapping[str, Any]) -> "OwnSampling | None":
        """What a run's knobs say of it; None where it trains on rows that are given."""
        return cls(knobs["rounds"], knobs.get("start", "base")) if "rounds" in knobs else None


def right_rows(rows: Sequence[Demonstration]) -> list[Demonstration]:
    """The rows whose answer is right; steps before it are not looked at, as no grader of samples does."""
    return [row for row in rows if lab.grade(_asked(row["prompt"]), row["completion"])]


def right_samples(
    model: PreTrainedModel, rows: Sequence[Demonstration], world: World, k: int, seed: int
) -> list[Demonstration]:
    """Of k samples of each prompt at temperature 1, the distinct right ones that ended by themselves.

    Raises:
        ValueError: none is right.
    """
    asked = [_asked(prompt) for prompt in dict.fromkeys(row["prompt"] for row in rows)]
    protocol = SamplingProtocol("plain", k, 1.0, 1.0, world.max_new_tokens, seed=seed)
    scored = score_model(model, lab.tokenizer(world), asked, protocol)
    kept = [
        Demonstration(prompt=question["prompt"], completion=text)
        for question, right, drawn in zip(asked, scored.correct, scored.completions, strict=True)
        for text in dict.fromkeys(
            f" {each.text.strip()}"
            for each, is_right in zip(drawn, right, strict=True)
            if is_right and each.finish == "stop"
        )
    ]
    if not kept:
        raise ValueError(f"none of {k} samples of {len(asked)} prompts is right, so there is nothing to train on")
    return kept


Train = Callable[[PreTrainedModel, Sequence[Demonstration], int], PreTrainedModel]
"""Trains a model on rows for so many steps."""


def train_in_rounds(
    own: OwnSampling,
    student: Callable[[], PreTrainedModel],
    rows: Sequence[Demonstration],
    world: World,
    steps: int,
    seed: int,
    train: Train,
) -> PreTrainedModel:
    """Sample from the student, train on what is right, and again; the last round's student.

    Args:
        student: gives the untouched student anew.
        rows: whose prompts are answered.
        steps: of all rounds, which have equal shares, as of `SAMPLES_IN_ALL`.
    """
    writer = student()
    for number in range(own.rounds):
        samples = right_samples(writer, rows, world, SAMPLES_IN_ALL // own.rounds, seed + number * ROUND_SEED)
        writer = train(writer if own.start == "last" else student(), samples, steps // own.rounds)
    return writer


def _asked(prompt: str) -> LabQuestion:
    return LabQuestion(prompt=prompt, answer=lab.true_answer(prompt))
