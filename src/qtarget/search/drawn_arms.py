"""Arms from ranges, by Optuna: asked for a few points at a time, told what earlier ones scored at the first rung.

Every batch is drawn from the scores of the batches before it and from the seed alone. So it is the same whoever draws
it, and however often: a search that was killed, or that several machines run, draws no arm twice and no other arm.
"""

import warnings
from collections.abc import Sequence
from typing import Any

from qtarget.outcomes import needs_extra
from qtarget.search.search_space import NumberAxis, RangeArms

BATCH = 4
"""Arms that are drawn at once, and may run beside one another."""
DRAWN_DIGITS = 3
"""Of a drawn number: a file is to be read by people."""


def check_optuna() -> None:
    """Refuse ranges where Optuna is not installed.

    Raises:
        ImportError: names the line that installs it.
    """
    with needs_extra("a range of `qtarget search`", "search"):
        import optuna  # noqa: F401  # pyright: ignore[reportMissingImports]


def next_points(
    ranges: RangeArms, told: Sequence[tuple[dict[str, float], float | None]], seed: int
) -> list[dict[str, float]]:
    """The next batch of points; none where all draws are made.

    Args:
        told: earlier points in their order, each with its score, the higher the better; None where the arm failed.
        seed: of the sampler.
    """
    count = min(BATCH, ranges.draws - len(told))
    if count < 1:
        return []
    import optuna  # pyright: ignore[reportMissingImports]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {key: _distribution(axis) for key, axis in ranges.axes.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of `constant_liar`
        sampler = optuna.samplers.TPESampler(seed=seed + len(told), n_startup_trials=BATCH, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    states = optuna.trial.TrialState
    for point, score in told:
        ended: dict[str, Any] = {"state": states.FAIL} if score is None else {"value": score}
        study.add_trial(optuna.trial.create_trial(params=point, distributions=distributions, **ended))
    return [_rounded_point(study.ask(distributions).params, ranges) for _ in range(count)]


def _distribution(axis: NumberAxis) -> Any:
    import optuna  # pyright: ignore[reportMissingImports]

    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)


def _rounded_point(point: dict[str, float], ranges: RangeArms) -> dict[str, float]:
    return {
        key: min(max(float(f"{value:.{DRAWN_DIGITS}g}"), ranges.axes[key].low), ranges.axes[key].high)
        for key, value in point.items()
    }
