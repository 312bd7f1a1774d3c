"""From outcomes on disk to results: scores with intervals over seeds and questions, and paired comparisons."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from qtarget.evaluate.confidence import SeedsDifference, holm, paired_seeds
from qtarget.study.miniature.budgets import check_one_budget, of_study
from qtarget.study.miniature.design import Study
from qtarget.study.miniature.runs import path_of
from qtarget.study.miniature.settings import Setting
from qtarget.study.run_record import Outcome, read_outcome

OURS = "target-sft"
RIVALS = ("base", "sft", "dft", "kd")


@dataclass(frozen=True)
class MethodRuns:
    """A method in a setting, with its hyperparameters: one outcome for each seed."""

    setting: str
    method: str
    outcomes: tuple[Outcome, ...]

    @property
    def mean(self) -> float:
        return fmean(outcome.mean for outcome in self.outcomes)

    @property
    def eta(self) -> float | None:
        return self.outcomes[0].run.hyperparameters.get("eta")

    @property
    def shares(self) -> list[list[float]]:
        """Share of right answers, [seeds][questions]."""
        return [outcome.shares for outcome in self.outcomes]

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean, for other seeds and other questions."""
        zeros = [[0.0] * len(row) for row in self.shares]
        difference = paired_seeds(self.shares, zeros)
        return max(0.0, difference.low), difference.high

    def effect(self, name: str) -> float:
        """Mean over seeds of a measure besides accuracy: a name of `page.EFFECT_COLUMNS`."""
        return fmean(_effect(outcome, name) for outcome in self.outcomes)

    @property
    def greedy(self) -> float | None:
        """Share right at temperature 0, a mean over the seeds in which it was measured."""
        known = [outcome.greedy for outcome in self.outcomes if outcome.greedy is not None]
        return fmean(known) if known else None


def _effect(outcome: Outcome, name: str) -> float:
    if name == "pass_gain":
        return fmean(right > 0 for right in outcome.right) - outcome.mean
    return outcome.effects[name] if name in outcome.effects else getattr(outcome, name)


@dataclass(frozen=True)
class Verdict:
    """Target-SFT in one setting, beside each rival.

    Attributes:
        best: the rival with the highest mean.
        against: Target-SFT minus the rival, by rival.
        p: the largest of the rivals' p values. To be ahead of all is to be ahead of each, so it needs no adjustment
            for their number. It is 1 where Target-SFT is not first.
        holm: p, adjusted for the number of settings (Holm 1979).
    """

    setting: str
    eta: float
    best: str
    against: dict[str, SeedsDifference]
    p: float
    holm: float

    @property
    def is_first(self) -> bool:
        return all(gap.mean > 0 for gap in self.against.values())

    @property
    def is_clearly_first(self) -> bool:
        """First, with an adjusted p below 0.05."""
        return self.is_first and self.holm < 0.05


def load_outcomes(
    settings: Iterable[Setting], results: Path, split: str = "test", study: Study | None = None
) -> list[MethodRuns]:
    """The methods of each setting, from the outcomes on disk, with the seeds that all methods of the setting have.

    Args:
        study: whose outcomes are meant; None for all there are, which must be of one study then.

    Raises:
        ValueError: a file holds no outcome, or outcomes are of several studies.
    """
    return [arm for setting in settings for arm in _arms(setting, results, split, study)]


def _outcomes_of(setting: Setting, results: Path, split: str, study: Study | None) -> list[Outcome]:
    found = {path: read_outcome(path) for path in sorted((results / setting.name).glob(f"*-{split}-*.json"))}
    for path, outcome in found.items():
        if path_of(outcome.run, results) != path:
            raise ValueError(
                f"{path} holds the outcome of {outcome.run.setting}/{outcome.run.name}; remove it to run it again."
            )
    found = found if study is None else of_study(found, study.budget(setting))
    if found:
        check_one_budget(found)
    return list(found.values())


def _arms(setting: Setting, results: Path, split: str, study: Study | None) -> list[MethodRuns]:
    by_arm: dict[tuple, dict[int, Outcome]] = {}
    for outcome in _outcomes_of(setting, results, split, study):
        key = (outcome.run.method, *sorted(outcome.run.hyperparameters.items()))
        by_arm.setdefault(key, {})[outcome.run.seed] = outcome
    if not by_arm:
        return []
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in by_arm.values())))
    return [
        MethodRuns(setting.name, key[0], tuple(by_seed[seed] for seed in seeds))
        for key, by_seed in by_arm.items()
        if seeds
    ]


def verdicts(arms: Sequence[MethodRuns]) -> list[Verdict]:
    """A verdict for each setting, in the order of the arms."""
    settings = list(dict.fromkeys(arm.setting for arm in arms))
    unadjusted = [_verdict({arm.method: arm for arm in arms if arm.setting == setting}) for setting in settings]
    adjusted = holm([verdict.p for verdict in unadjusted])
    return [replace(verdict, holm=p) for verdict, p in zip(unadjusted, adjusted, strict=True)]


def _verdict(by_method: dict[str, MethodRuns]) -> Verdict:
    """The verdict of a setting, with p not adjusted yet."""
    ours = by_method[OURS]
    rivals = {name: by_method[name] for name in RIVALS if name in by_method}
    against = {name: paired_seeds(ours.shares, rival.shares) for name, rival in rivals.items()}
    first = all(gap.mean > 0 for gap in against.values())
    p = max(gap.p for gap in against.values()) if first else 1.0
    best = max(rivals, key=lambda name: rivals[name].mean)
    return Verdict(ours.setting, float(ours.eta or 0.0), best, against, p, p)


@dataclass(frozen=True)
class Cell:
    """A setting of the sweep and its best method, chosen on the very questions it is shown with.

    Attributes:
        noise, products, slips: where it stands in the sweep; see `settings`.
        lead: the best mean minus the best mean of another method, in [0, 1].
    """

    noise: float
    products: float
    slips: float
    best: MethodRuns
    lead: float
    arms: tuple[MethodRuns, ...]


def cells(settings: Sequence[Setting], arms: Sequence[MethodRuns]) -> list[Cell]:
    """The settings of the sweep in which all methods have results."""
    trained = {
        setting.name: tuple(arm for arm in arms if arm.setting == setting.name and arm.outcomes[0].run.trains)
        for setting in settings
    }
    most = max(map(len, trained.values()))
    return [_cell(setting, arms) for setting in settings if len(arms := trained[setting.name]) == most > 0]


def _cell(setting: Setting, arms: tuple[MethodRuns, ...]) -> Cell:
    world = setting.world
    best = max(arms, key=lambda arm: arm.mean)
    others = [arm.mean for arm in arms if arm.method != best.method]
    times = world.student.writer.operators[2]
    return Cell(world.noise, times, world.teacher.writer.slips, best, best.mean - max(others), arms)
