"""How well a judge agrees with grades given by hand, on a sample of answers."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from qtarget.data.user_files.formats import rows_of
from qtarget.evaluate.grading.judge import JudgeGrader
from qtarget.evaluate.nouns import Grader, Question, TaskRun

DRAWS_OF_ANSWERS = 2000
RIGHT_WORDS, WRONG_WORDS = ("1", "true", "right", "correct", "yes"), ("0", "false", "wrong", "incorrect", "no")


@dataclass(frozen=True)
class HandGrade:
    """An answer that somebody graded."""

    question: Question
    completion: str
    grade: int


@dataclass(frozen=True)
class Agreement:
    """How far a judge and a hand agree. Intervals are of 95 %.

    Attributes:
        n: answers that both graded.
        unknown: answers that the judge could not grade; they count as disagreement in `share` and not in `kappa`.
        share, low, high: of answers graded alike, with Wilson's interval.
        kappa: Cohen's, which is 0 for a judge that agrees as often as chance would have it; None where one of the two
            gave one grade only.
        kappa_low, kappa_high: by bootstrap over the answers.
        too_kind, too_strict: answers that only the judge calls right, and that only the hand does.
    """

    n: int
    unknown: int
    share: float
    low: float
    high: float
    kappa: float | None
    kappa_low: float | None
    kappa_high: float | None
    too_kind: int
    too_strict: int

    def words(self) -> str:
        """It in a line."""
        kappa = "Cohen's kappa not defined: one of the two gave one grade only"
        if self.kappa is not None and self.kappa_low is not None and self.kappa_high is not None:
            kappa = f"Cohen's kappa {self.kappa:.2f} ({self.kappa_low:.2f}–{self.kappa_high:.2f})"
        same = (
            f"agrees with {100 * self.share:.1f} % ({100 * self.low:.1f}–{100 * self.high:.1f}) of {self.n} hand grades"
        )
        unknown = f", {self.unknown} without a verdict" if self.unknown else ""
        return f"{same}, {kappa}; right to it alone {self.too_kind}, to the hand alone {self.too_strict}{unknown}"


def read_hand_grades(path: Path, questions: Sequence[Question]) -> list[HandGrade]:
    """Answers with a hand's grades: rows of `qid` (or the `question`'s text), `completion`, and `grade` (1 or 0).

    Raises:
        ValueError: no such file, no rows, or a row that lacks one of them; with its place.
    """
    by_name = {name: question for question in questions for name in (question.text, question.qid)}
    grades = [_hand_grade(f"{path}, {placed.place}", placed.row, by_name) for placed in rows_of(path, "hand grades")]
    if not grades:
        raise ValueError(f"--hand-grades {path} has no rows; give answers with grades of yours.")
    return grades


def _hand_grade(place: str, row: Mapping[str, Any], questions: Mapping[str, Question]) -> HandGrade:
    name, completion, grade = (row.get(field) for field in ("qid", "completion", "grade"))
    name = row.get("question") if name is None else name
    if name not in questions:
        raise ValueError(
            f"{place}: {str(name)[:60]!r} is no question of the task; write its `qid`, or `question` as asked."
        )
    if not isinstance(completion, str):
        raise ValueError(f"{place} has no `completion`, the answer that was graded.")
    said = str(grade).strip().casefold()
    if said not in (*RIGHT_WORDS, *WRONG_WORDS):
        raise ValueError(f"{place} has {grade!r} for `grade`; write 1 for right and 0 for wrong.")
    return HandGrade(questions[str(name)], completion, int(said in RIGHT_WORDS))


def judge_agreement(grader: Grader, run: TaskRun) -> Agreement | None:
    """Ask a judge for its grades of the answers that were graded by hand; None for another grader, or without these."""
    if not isinstance(grader, JudgeGrader) or grader.hand_grades is None:
        return None
    hand = read_hand_grades(Path(grader.hand_grades), run.questions)
    with ThreadPoolExecutor(grader.at_once) as pool:
        grades = list(pool.map(grader.grade, [one.question for one in hand], [one.completion for one in hand]))
    return agreement_in([(one.grade, grade.value) for one, grade in zip(hand, grades, strict=True)])


def agreement_in(both: Sequence[tuple[int, int | None]]) -> Agreement:
    """The agreement of pairs: the hand's grade, and the judge's or None."""
    known = [(mine, its) for mine, its in both if its is not None]
    same = sum(mine == its for mine, its in known)
    interval = binomtest(same, len(both)).proportion_ci(method="wilson")
    low, high = _kappa_interval(np.array(known, dtype=int).reshape(-1, 2))
    return Agreement(
        n=len(both),
        unknown=len(both) - len(known),
        share=same / len(both),
        low=float(interval.low),
        high=float(interval.high),
        kappa=_kappa(np.array(known, dtype=int).reshape(-1, 2)),
        kappa_low=low,
        kappa_high=high,
        too_kind=sum(mine < its for mine, its in known),
        too_strict=sum(mine > its for mine, its in known),
    )


def _kappa(pairs: np.ndarray) -> float | None:
    """Cohen's kappa of ``[n, 2]`` grades; None where chance alone would agree always, or there are none."""
    if not len(pairs):
        return None
    right = pairs.mean(0)
    by_chance = float(right.prod() + (1 - right).prod())
    observed = float((pairs[:, 0] == pairs[:, 1]).mean())
    return None if len(set(pairs[:, 0])) < 2 or len(set(pairs[:, 1])) < 2 else (observed - by_chance) / (1 - by_chance)


def _kappa_interval(pairs: np.ndarray) -> tuple[float | None, float | None]:
    if _kappa(pairs) is None:
        return None, None
    rng = np.random.default_rng(0)
    drawn = (_kappa(pairs[rng.integers(0, len(pairs), len(pairs))]) for _ in range(DRAWS_OF_ANSWERS))
    low, high = np.quantile([kappa for kappa in drawn if kappa is not None], (0.025, 0.975))
    return float(low), float(high)
