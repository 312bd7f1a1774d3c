"""The paired difference of two single runs on the same questions."""

from collections.abc import Sequence
from dataclasses import dataclass

from qtarget.evaluate.confidence.average import Grades, shares_of
from qtarget.evaluate.confidence.seeds import paired_seeds


@dataclass(frozen=True)
class PairedDifference:
    """How much arm A scores above arm B on the same questions (between -1 and 1), with its 95 % interval."""

    mean: float
    low: float
    high: float
    n_questions: int
    k: int

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def paired_difference(
    correct_a: Grades, correct_b: Grades, k: int, *, units: Sequence[str] | None = None
) -> PairedDifference:
    """Mean over questions of A's share minus B's, with a 95 % interval by question: `paired_seeds` of one seed, for
    the grades of two single runs.

    Both arms must hold the same questions in the same order; pairing removes the questions' own difficulty. The
    interval is Student's on the differences, their variance taken with two pseudo-questions as different as the most
    different question, one in favour of each arm. With one sample a question these are a question that A alone gets
    right and one that B alone gets right, as in the adjusted Wald interval for matched pairs (Bonett and Price 2012).
    So two arms that never differed are not declared equal beyond doubt.

    Raises:
        ValueError: the arms differ in their number of questions, or a question lacks exactly k samples.
    """
    shares_a, shares_b = shares_of(correct_a, k), shares_of(correct_b, k)
    if len(shares_a) != len(shares_b):
        raise ValueError(
            f"Arm A has {len(shares_a)} questions and arm B has {len(shares_b)}; "
            "a paired difference needs both on the same questions. Evaluate both on one list."
        )
    found = paired_seeds(shares_a[None], shares_b[None], units=units)
    return PairedDifference(found.mean, found.low, found.high, found.n_questions, k)
