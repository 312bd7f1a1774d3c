"""The study's tables as Markdown, and a page with them filled in."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from qtarget.disk.pages import markdown, rewrite_page
from qtarget.study.miniature.analysis import OURS, RIVALS, Cell, MethodRuns, Verdict, cells, load_outcomes, verdicts
from qtarget.study.miniature.picture import draw_study, draw_sweep
from qtarget.study.miniature.settings import SWEEP, Setting

EFFECT_COLUMNS = {
    "forgetting_kl": "KL from base",
    "ece": "ECE",
    "overconfidence": "confidence − accuracy",
    "true_nll": "nll of true text",
    "distinct": "distinct answers",
    "pass_gain": "pass@k − avg@k",
    "truncated_share": "cut off",
    "mean_tokens": "tokens",
}
"""Measures besides accuracy, and their headings."""


def write_page(page: Path, settings: Sequence[Setting], results: Path) -> None:
    """Write the page's tables anew, and its pictures beside it: `study.png` and `study-sweep.png`."""
    arms, swept = load_outcomes(settings, results), cells(SWEEP, load_outcomes(SWEEP, results))
    tables = {**study_tables(settings, arms, load_outcomes(settings, results, "development")), **sweep_tables(swept)}
    rewrite_page(page, tables)
    draw_study(settings, arms, page.with_name("study.png"))
    if swept:
        draw_sweep(swept, page.with_name("study-sweep.png"))


def study_tables(
    settings: Sequence[Setting], arms: Sequence[MethodRuns], tried: Sequence[MethodRuns]
) -> dict[str, str]:
    """The study's tables by the names in the page's marks.

    Args:
        arms: of the test.
        tried: of the development questions.
    """
    drawn = verdicts(arms)
    return {
        "scores": scores_table(settings, arms),
        "verdicts": verdict_table(drawn),
        "count": verdict_sentence(drawn),
        "choice": choice_table(tried),
        "greedy": greedy_table(settings, arms),
        "effects": effects_table(arms),
        "runs": runs_sentence(arms),
    }


def scores_table(settings: Sequence[Setting], arms: Sequence[MethodRuns]) -> str:
    """Mean over seeds and questions, with its interval; the best trained method in bold."""
    columns = ("base", "sft", "dft", "kd", OURS, "teacher")
    rows = []
    for setting in settings:
        here = {arm.method: arm for arm in arms if arm.setting == setting.name}
        best = max((arm for arm in here.values() if arm.method != "teacher"), key=lambda arm: arm.mean, default=None)
        rows.append([f"{setting.group}, {setting.label}", *(_score(here.get(name), best) for name in columns)])
    return markdown(["setting", *columns], rows)


def _score(arm: MethodRuns | None, best: MethodRuns | None) -> str:
    if arm is None:
        return ""
    mean = f"**{100 * arm.mean:.1f}**" if arm is best else f"{100 * arm.mean:.1f}"
    low, high = arm.interval
    return f"{mean} ({100 * low:.0f}–{100 * high:.0f})"


def greedy_table(settings: Sequence[Setting], arms: Sequence[MethodRuns]) -> str:
    """Per cent right at temperature 0, with temperature 1 in brackets, where the former was measured."""
    columns = ("base", "sft", "dft", "kd", OURS)
    rows = []
    for setting in settings:
        here = {arm.method: arm for arm in arms if arm.setting == setting.name and arm.greedy is not None}
        if here:
            rows.append([f"{setting.group}, {setting.label}", *(_greedy(here.get(name)) for name in columns)])
    return markdown(["temperature 0 (1)", *columns], rows)


def _greedy(arm: MethodRuns | None) -> str:
    return "" if arm is None or arm.greedy is None else f"{100 * arm.greedy:.1f} ({100 * arm.mean:.1f})"


def verdict_table(drawn: Sequence[Verdict]) -> str:
    """Target-SFT minus each rival, in points."""
    rows = [
        [
            _spaced(verdict.setting), f"{verdict.eta:g}", *(_gap(verdict, name) for name in RIVALS), verdict.best,
            _p(verdict.holm), "clearly" if verdict.is_clearly_first else "yes" if verdict.is_first else "no",
        ]
        for verdict in drawn
    ]  # fmt: skip
    columns = ["setting", "η", *(f"minus {name}" for name in RIVALS), "best rival", "p (Holm)", "first?"]
    return markdown(columns, rows)


def _spaced(name: str) -> str:
    return name.replace("-", " ")


def _gap(verdict: Verdict, rival: str) -> str:
    if rival not in verdict.against:
        return ""
    gap = verdict.against[rival]
    return f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f} … {100 * gap.high:+.1f})"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def verdict_sentence(drawn: Sequence[Verdict]) -> str:
    """The study in two sentences."""
    first, clearly = sum(verdict.is_first for verdict in drawn), sum(verdict.is_clearly_first for verdict in drawn)
    rivals = [name for name in RIVALS if all(name in verdict.against for verdict in drawn)]
    beside = (f"{name} {_clear(drawn, name, ahead=True)} and {_clear(drawn, name, ahead=False)}" for name in rivals)
    return (
        f"Target-SFT is first in **{first} of {len(drawn)}** settings, and clearly so in **{clearly}**. Taken "
        "one by one, the interval of the difference leaves out zero in its favour, and against it, in: "
        f"{', '.join(beside)}."
    )


def _clear(drawn: Sequence[Verdict], rival: str, *, ahead: bool) -> int:
    """In how many settings Target-SFT's interval leaves out zero, ahead of the rival or behind it."""
    return sum(gap.is_clear and (gap.mean > 0) is ahead for gap in (verdict.against[rival] for verdict in drawn))


def choice_table(tried: Sequence[MethodRuns]) -> str:
    """Score of each η on the development questions; the chosen one in bold."""
    etas = sorted({arm.eta for arm in tried if arm.eta is not None})
    rows = []
    for name in dict.fromkeys(arm.setting for arm in tried):
        here = {arm.eta: arm.mean for arm in tried if arm.setting == name}
        best = max(here.values())
        chosen = next(eta for eta in etas if here.get(eta) == best)
        cell: Callable[[float], str] = lambda eta, here=here, chosen=chosen: (  # noqa: E731
            "" if eta not in here else f"**{100 * here[eta]:.1f}**" if eta == chosen else f"{100 * here[eta]:.1f}"
        )
        rows.append([_spaced(name), *map(cell, etas)])
    return markdown(["setting", *(f"η = {eta:g}" for eta in etas)], rows)


def effects_table(arms: Sequence[MethodRuns]) -> str:
    """What each method does besides accuracy: means over settings and seeds."""
    rows = []
    for method in ("base", "sft", "dft", "kd", OURS):
        here = [arm for arm in arms if arm.method == method]
        means = {name: fmean(arm.effect(name) for arm in here) for name in EFFECT_COLUMNS}
        rows.append([method, *(_number(name, value) for name, value in means.items())])
    return markdown(["", *EFFECT_COLUMNS.values()], rows)


def _number(name: str, value: float) -> str:
    if name in ("truncated_share", "pass_gain"):
        return f"{100 * value:.1f} %"
    return f"{value:+.3f}" if name == "overconfidence" else f"{value:.1f}" if name == "mean_tokens" else f"{value:.3f}"


def runs_sentence(arms: Sequence[MethodRuns]) -> str:
    """How much was run, and with which versions, in sentences."""
    outcomes = [outcome for arm in arms for outcome in arm.outcomes]
    first = outcomes[0]
    versions = ", ".join(f"{name} {number}" for name, number in first.made_with.items() if name != "machine")
    hours = sum(outcome.seconds for outcome in outcomes) / 3600
    return (
        f"{len(outcomes)} runs of the test: {len({each.run.seed for each in outcomes})} seeds, {first.run.budget.test} "
        f"questions, {first.run.budget.samples} answers to each. They took {hours:.1f} hours of two busy cores. "
        f"{versions}."
    )


def sweep_tables(swept: Sequence[Cell]) -> dict[str, str]:
    """The sweep's tables by the names in the page's marks."""
    if not swept:
        return {"sweep": "Not run yet: `make study`.", "sweep_counts": ""}
    return {"sweep": sweep_table(swept), "sweep_counts": sweep_counts(swept)}


def sweep_table(swept: Sequence[Cell]) -> str:
    """Average of each arm by one axis of the sweep at a time, over the other two."""
    names = list(dict.fromkeys(_label(arm) for cell in swept for arm in cell.arms))
    axes = {"wrong steps": "noise", "products": "products", "teacher's slips": "slips"}
    rows = []
    for title, axis in axes.items():
        for value in sorted({getattr(cell, axis) for cell in swept}):
            here = [cell for cell in swept if getattr(cell, axis) == value]
            means = {name: fmean(_of(cell, name).mean for cell in here) for name in names}
            best = max(means, key=lambda name: means[name])
            shown = [f"**{100 * m:.1f}**" if name == best else f"{100 * m:.1f}" for name, m in means.items()]
            rows.append([f"{title} {value:g}", *shown])
    return markdown(["", *names], rows)


def _label(arm: MethodRuns) -> str:
    return arm.outcomes[0].run.label


def _of(cell: Cell, name: str) -> MethodRuns:
    return next(arm for arm in cell.arms if _label(arm) == name)


def sweep_counts(swept: Sequence[Cell]) -> str:
    """How often each arm is the best of its setting, in a sentence."""
    best = [_label(cell.best) for cell in swept]
    order = sorted(set(best), key=lambda name: (-best.count(name), name))
    return f"Best of its cell, of {len(swept)}: " + ", ".join(f"{name} in {best.count(name)}" for name in order) + "."
