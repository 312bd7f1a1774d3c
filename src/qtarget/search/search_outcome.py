"""What a search found: the race rung by rung, its winner, the confirmation, and the sentence that says it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qtarget.console import amount, printable
from qtarget.search.race import ScoreDifference, Standing, scaled_difference
from qtarget.search.search_runs import RunResult
from qtarget.search.search_space import BASELINE_METHOD, SearchArm

SAID_LENGTH = 120
"""Characters of a failed command's last words within a sentence; the table has all of them."""


@dataclass(frozen=True)
class ArmRecord:
    """An arm's way through the race.

    Attributes:
        standings: after each rung that it was in.
        failed: why it has no score at the rung after those; "" where it did not fail.
    """

    arm: SearchArm
    standings: tuple[Standing, ...] = ()
    failed: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether it is in the race after the rungs that were run."""
        return not self.failed and not (self.standings and self.standings[-1].is_dropped)

    @property
    def reached(self) -> tuple[int, float]:
        """How far it came, and how well: what orders arms."""
        rungs = len(self.standings)
        return (rungs, self.standings[-1].mean) if rungs else (0, float("-inf"))


def is_sft(arm: SearchArm, default_method: str) -> bool:
    """Whether an arm is plain SFT."""
    return (arm.method or default_method) == BASELINE_METHOD


@dataclass(frozen=True)
class Confirmation:
    """The winner beside the best arm of the other kind, on fresh seeds and on questions that the race never read.

    Attributes:
        winner, other: means over seeds and questions.
        difference: winner minus other, for other seeds and questions.
    """

    winner: float
    other: float
    difference: ScoreDifference
    seeds: int
    questions: int

    @property
    def is_equal(self) -> bool:
        """Whether both arms score exactly alike, up to the rounding of sums."""
        return math.isclose(self.winner, self.other, rel_tol=1e-9)


@dataclass(frozen=True)
class SearchOutcome:
    """Everything a search found.

    Attributes:
        measure: what scores are: "share of right answers" or "minus the loss, nats a token".
        steps: of each rung that was run.
        winner: the arm of the highest mean among those that stayed.
        other: the arm that it is confirmed beside: the best sft, or of sft the best other; None where there is none.
        confirmation: None where there is no other arm, or it failed.
        advice: the arm that `best.yaml` holds: see `advised`.
        because: why, as it is said behind its name.
        sentence: what was found.
        unconfirmed: why there is no confirmation, as a clause; "" where there is one.
    """

    measure: str
    steps: tuple[int, ...]
    arms: tuple[ArmRecord, ...]
    winner: SearchArm
    other: SearchArm | None
    confirmation: Confirmation | None
    advice: SearchArm
    because: str
    sentence: str
    unconfirmed: str = ""

    @property
    def advice_sentence(self) -> str:
        """What `best.yaml` holds, and why."""
        return f"best.yaml holds {self.advice.name}, which {self.because}."

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        arms = [
            {
                "name": each.arm.name,
                "keys": dict(each.arm.keys),
                "folder": f"arms/{each.arm.folder}",
                "failed": each.failed,
                "rungs": [{**asdict(standing), "dropped": standing.is_dropped} for standing in each.standings],
            }
            for each in self.arms
        ]
        return {
            "measure": self.measure,
            "steps": list(self.steps),
            "arms": arms,
            "winner": self.winner.name,
            "other": None if self.other is None else self.other.name,
            "confirmation": None if self.confirmation is None else asdict(self.confirmation),
            "unconfirmed": self.unconfirmed,
            "best": self.advice.name,
            "best_because": self.because,
            "sentence": self.sentence,
        }


def contestants(records: Sequence[ArmRecord], default_method: str) -> tuple[SearchArm, SearchArm | None]:
    """The winner, which of arms exactly alike is sft; and the best arm that is sft where the winner is not, or is not
    where the winner is."""
    alive = [each for each in records if each.is_alive]
    winner = max(alive, key=lambda each: (each.reached, is_sft(each.arm, default_method))).arm
    side = is_sft(winner, default_method)
    rest = [each for each in records if each.standings and is_sft(each.arm, default_method) != side]
    return winner, max(rest, key=lambda each: each.reached).arm if rest else None


def lacks_other(records: Sequence[ArmRecord], winner: SearchArm, default_method: str) -> str:
    """Why no arm of the other kind can be confirmed beside the winner: there is none, or none finished a rung."""
    side = is_sft(winner, default_method)
    gone = [each for each in records if is_sft(each.arm, default_method) != side]
    if not gone:
        return f"every arm is {'' if side else 'not '}sft, so nothing was compared with it"
    more = f"; {len(gone) - 1} more" if len(gone) > 1 else ""
    why = f"({gone[0].arm.name}: {printable(gone[0].failed, SAID_LENGTH)}{more})"
    if side:
        return f"no arm but sft finished a rung {why}, so nothing is known of any other"
    return f"no sft arm finished a rung {why}, so nothing is known against sft"


def confirmation_failed(sides: Mapping[SearchArm, Sequence[RunResult]]) -> str:
    """Why there is no seed at which both arms have scores."""
    gone = [(arm, results) for arm, results in sides.items() if all(each.failed for each in results)]
    if not gone:
        return "one of the two arms failed at every seed of the confirmation, so nothing is known beyond the race"
    said = [f"{arm.name} ({printable(results[0].failed, SAID_LENGTH)})" for arm, results in gone]
    return f"at every seed of the confirmation {' and '.join(said)} failed, so nothing is known beyond the race"


def confirmed(winner: Sequence[RunResult], other: Sequence[RunResult]) -> Confirmation | None:
    """The comparison over the seeds at which neither failed; None where there is none."""
    pairs = [(a, b) for a, b in zip(winner, other, strict=True) if not (a.failed or b.failed)]
    if not pairs:
        return None
    ours, theirs = [list(a.scores) for a, _ in pairs], [list(b.scores) for _, b in pairs]
    difference = scaled_difference(ours, theirs, pairs[0][0].units)
    means = [sum(map(sum, each)) / sum(map(len, each)) for each in (ours, theirs)]
    return Confirmation(means[0], means[1], difference, len(pairs), len(ours[0]))


def advised(
    winner: SearchArm, other: SearchArm | None, confirmation: Confirmation | None, default_method: str
) -> SearchArm:
    """The race's winner, unless the confirmation is clearly against it; sft where the two score exactly alike there.

    Of three rules this one loses least in a simulation with the study's spreads, `benchmarks/confirmation_rules.py`: an
    interval on both sides of zero says less than a race that was won.
    """
    if other is None or confirmation is None:
        return winner
    if confirmation.is_equal:
        return winner if is_sft(winner, default_method) else other
    return winner if confirmation.difference.high >= 0 else other


def reason_of(
    winner: SearchArm, other: SearchArm | None, confirmation: Confirmation | None, default_method: str
) -> str:
    """Why an arm is advised, as it is said behind its name."""
    if other is None or confirmation is None:
        return "won the race, and was not confirmed"
    best = advised(winner, other, confirmation, default_method)
    if confirmation.is_equal:
        same = other if best is winner else winner
        return f"scores exactly what {same.name} does in the confirmation, and is the simpler arm"
    if best is other:
        return f"is clearly ahead in the confirmation of {winner.name}, which won the race"
    if confirmation.difference.low > 0:
        return "won the race, and is clearly ahead in the confirmation"
    return f"won the race and is not told from {other.name} in the confirmation: the better guess, not a finding"


def finding(
    winner: SearchArm, other: SearchArm, found: Confirmation, steps: int, default_method: str, unit: str
) -> str:
    """The sentence: whether an arm is better than sft at this budget.

    Args:
        unit: "question" or "row".
    """
    ours, sft = (other, winner) if is_sft(winner, default_method) else (winner, other)
    sign = -1 if ours is other else 1
    ends = sorted(sign * end for end in (found.difference.low, found.difference.high))
    figures = f"{sign * found.difference.mean + 0.0:+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]"
    at = f"at {amount(steps, 'step')}"
    basis = f"over {amount(found.seeds, 'fresh seed')} and {amount(found.questions, unit)} that the race never read"
    if ends[0] > 0:
        return f"{ours.name} is better than sft ({sft.name}) {at}: {figures}, {basis}."
    if ends[1] < 0:
        return f"No arm is better than sft {at}: {ours.name} minus {sft.name} is {figures}, {basis}."
    return (
        f"No arm is found to be better than sft {at}: the confirmation does not tell {ours.name} from "
        f"{sft.name}, whose difference is {figures}, {basis}."
    )


def finding_without(winner: SearchArm, unconfirmed: str) -> str:
    """The sentence where there is no confirmation."""
    return f"{unconfirmed[0].upper()}{unconfirmed[1:]}; the race chose {winner.name}."


def default_method_of(base: Mapping[str, Any], fallback: str) -> str:
    """The method of an arm that says none."""
    return str(base.get("method") or fallback)
