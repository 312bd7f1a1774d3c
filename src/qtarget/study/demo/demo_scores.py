"""From the demo's outcomes to scores, and to the paired differences of `qtarget compare`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qtarget.evaluate.confidence import BaselineDifference, Estimate, average_at_k, baseline_differences
from qtarget.evaluate.confidence.seeds import Shares
from qtarget.study.demo.demo_scenes import ARMS, BASELINE, RIVAL, Scene
from qtarget.study.tuned.design import TEACHER
from qtarget.study.tuned.outcome import StudyOutcome
from qtarget.study.tuned.tuned_arms import COMMON, OURS, Decoding


@dataclass(frozen=True)
class DemoScore:
    """An arm in one table.

    Attributes:
        average: over the answers of all trainings, with its interval by question.
        against: the paired difference to sft; None for sft itself.
        shares: of right answers, [trainings][questions].
    """

    arm: str
    average: Estimate
    truncated_share: float
    shares: Shares
    against: BaselineDifference | None = None


@dataclass(frozen=True)
class DemoTable:
    """A decoding's table.

    Attributes:
        rival: the difference `OURS` minus `RIVAL`; its p is not adjusted.
    """

    decoding: Decoding
    scores: tuple[DemoScore, ...]
    rival: BaselineDifference


def demo_table(scene: Scene, outcomes: Sequence[StudyOutcome], decoding: Decoding) -> DemoTable:
    """The scores of every arm at one decoding.

    The arm whose decoding is tuned draws its answers at that one, and stands in the table of `COMMON` only.
    """
    own = {arm.name: scene.chosen[arm.name][1] for arm in ARMS if arm.tunes_decoding and decoding == COMMON}
    shown = {arm.name: str(arm.method or "base") for arm in ARMS if not arm.tunes_decoding or arm.name in own}
    scores = [
        _score(name, [each for each in outcomes if each.run.method == method], own.get(name, decoding))
        for name, method in {**shown, TEACHER: TEACHER}.items()
    ]
    shares = {score.arm: score.shares for score in scores}
    others = [name for name in shares if name != BASELINE]
    found = baseline_differences(shares[BASELINE], [shares[name] for name in others])
    against = dict(zip(others, found, strict=True))
    (rival,) = baseline_differences(shares[RIVAL], [shares[OURS]])
    return DemoTable(decoding, tuple(replace(each, against=against.get(each.arm)) for each in scores), rival)


def _score(arm: str, outcomes: Sequence[StudyOutcome], decoding: Decoding) -> DemoScore:
    drawn = [outcome.answers[decoding.label] for outcome in outcomes]
    by_question = zip(*(each.right for each in drawn), strict=True)
    k, tried = sum(each.k for each in drawn), [sum(right) for right in by_question]
    grades = [[True] * right + [False] * (k - right) for right in tried]
    cut_off = sum(each.truncated_share for each in drawn) / len(drawn)
    return DemoScore(arm, average_at_k(grades, k), cut_off, [outcome.shares(decoding) for outcome in outcomes])
