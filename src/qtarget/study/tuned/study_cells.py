"""Cells that several tables of the study share."""

from qtarget.evaluate.confidence import SeedsDifference
from qtarget.study.tuned.design import TunedStudy
from qtarget.study.tuned.tuned_arms import StudyArm

NOTHING_YET = "Not run yet."


def points(gap: SeedsDifference) -> str:
    """A difference in points with its interval: "+1.2 (-0.3 … +2.7)"."""
    return f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f} … {100 * gap.high:+.1f})"


def arms_with_the_common_decoding(study: TunedStudy) -> list[StudyArm]:
    """The arms whose decoding is not tuned."""
    return [arm for arm in study.arms if not arm.tunes_decoding]
