"""The tables of docs/real-models.md, from the results of the units."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from qtarget.disk.pages import markdown, rewrite_page
from qtarget.evaluate.compare.tables import ArmScore
from qtarget.evaluate.compare.view import p_in_words
from qtarget.study.real_models.real_comparison import compared, outcomes_by_arm
from qtarget.study.real_models.real_protocol import BASELINE_ARM, TEACHER_ARM, RealProtocol, RealSetting
from qtarget.study.real_models.study_units import Unit, chosen_rate, development_average, trials_of, units_in_order
from qtarget.study.real_models.unit_files import read_unit

NOT_RUN = "Not run yet."


def write_real_page(page: Path, protocol: RealProtocol, results: Path) -> None:
    """Write the page's tables and numbers anew.

    Raises:
        ValueError: there is no such page, or it marks a part that there is not.
    """
    if not page.is_file():
        raise ValueError(f"{page} is not there; --page names a page with marked tables, such as docs/real-models.md.")
    rewrite_page(page, real_parts(protocol, results))


def real_parts(protocol: RealProtocol, results: Path) -> dict[str, str]:
    """The parts of the page, by the names in its marks."""
    parts = {
        "progress": progress_table(protocol, results),
        "units": units_sentence(protocol, results),
        "settings": settings_table(protocol),
        "decodings": decodings_table(protocol),
        "machines": machines_table(protocol, results),
    }
    for setting in protocol.settings:
        place, tests = setting.name.replace("-", "_"), outcomes_by_arm(protocol, setting, results)
        for decoding in protocol.decodings:
            parts[f"{place}_{decoding}"] = scores_at(setting, results, tests, decoding)
        parts[f"{place}_reading"] = verdict_in_words(protocol, setting, tests)
        parts[f"{place}_rates"] = rates_table(protocol, setting, results)
        parts[f"{place}_costs"] = costs_table(tests)
    return {**parts, "caches": caches_table(protocol, results), **tokens_tables(protocol, results)}


def units_sentence(protocol: RealProtocol, results: Path) -> str:
    """How much is run."""
    every = units_in_order(protocol)
    done = sum(read_unit(unit, results) is not None for unit in every)
    return f"{done} of {len(every)} units are run."


def settings_table(protocol: RealProtocol) -> str:
    """What each setting is."""
    rows = []
    for setting in protocol.settings:
        plan, teacher = setting.rows, f"`{setting.teacher}`" if setting.teacher else "made"
        learned = f"{plan.train}" + (f", {100 * plan.wrong_share:.0f} % wrong" if plan.wrong_share else "")
        rates = ", ".join(f"{rate:g}" for rate in setting.rates)
        cells = [setting.name, f"`{setting.student}`", teacher, plan.source, learned, str(plan.development)]
        rows.append([*cells, str(plan.test), str(setting.max_new_tokens), rates, str(len(setting.seeds))])
    head = ["setting", "student", "teacher", "rows from", "rows", "questions to tune on", "test questions"]
    return markdown([*head, "longest answer, tokens", "rates tried", "seeds"], rows)


def decodings_table(protocol: RealProtocol) -> str:
    """How answers are drawn."""
    rows = [[name, str(d.k), f"{d.temperature:g}", f"{d.top_p:g}"] for name, d in protocol.decodings.items()]
    return markdown(["decoding", "answers to a question", "temperature", "top_p"], rows)


def progress_table(protocol: RealProtocol, results: Path) -> str:
    """Units done, by setting and kind."""
    rows = []
    for setting in protocol.settings:
        mine = [unit for unit in units_in_order(protocol) if unit.setting == setting.name]
        cells = [setting.name]
        for kind in ("rows", "teacher", "cache", "tokens", "tuning", "test"):
            of_kind = [unit for unit in mine if unit.kind == kind]
            cells.append(f"{sum(read_unit(unit, results) is not None for unit in of_kind)} of {len(of_kind)}")
        rows.append(cells)
    return markdown(["setting", "rows", "teacher", "cache", "tokens", "tuning", "test"], rows)


def machines_table(protocol: RealProtocol, results: Path) -> str:
    """What the units of a setting that compute were made with."""
    units = [unit for unit in units_in_order(protocol) if unit.kind != "rows"]
    found = [(unit, result) for unit in units if (result := read_unit(unit, results)) is not None]
    kinds: dict[tuple[str, ...], list[str]] = {}
    for unit, result in found:
        made_with = result["made_with"]
        key = (unit.setting, made_with["device"], *(made_with[name] for name in ("torch", "transformers", "trl")))
        kinds.setdefault(key, []).append(unit.kind)
    rows = [
        [*key, ", ".join(f"{made.count(kind)} {kind}" for kind in dict.fromkeys(made))] for key, made in kinds.items()
    ]
    return markdown(["setting", "machine", "torch", "transformers", "TRL", "units"], rows) if rows else NOT_RUN


def scores_at(
    setting: RealSetting, results: Path, tests: Mapping[str, Sequence[Mapping[str, Any]]], decoding: str
) -> str:
    """Each arm at a decoding: accuracy with its interval, and what else `qtarget compare` measures."""
    tables = compared(tests, decoding)
    if tables is None:
        return NOT_RUN
    (table,) = tables.tasks
    head = ["arm", "by seed", f"Average@{table.k}", f"minus {tables.baseline}", "p", "cut off", "tokens"]
    head += ["distinct", "ECE", "KL from base"]
    order = {name: place for place, name in enumerate(tests)}
    rows = [
        [*_score_row(score, _by_seed(tests[score.arm], decoding)), *_effect_figures(tests[score.arm])]
        for score in sorted(table.scores, key=lambda score: order[score.arm])
    ]
    return markdown(head, [*rows, *_teacher_row(setting, results, decoding, len(head))])


def verdict_in_words(
    protocol: RealProtocol, setting: RealSetting, tests: Mapping[str, Sequence[Mapping[str, Any]]]
) -> str:
    """What a setting's table at the first decoding says, in sentences, and what it cannot say yet."""
    decoding = next(iter(protocol.decodings))
    tables = compared(tests, decoding)
    trained = [name for name in tests if name != BASELINE_ARM]
    if tables is None or not trained:
        return NOT_RUN
    scores = {score.arm: score for score in tables.tasks[0].scores}
    best = max(trained, key=lambda name: scores[name].average.mean)
    clear = [score for score in scores.values() if score.against is not None and score.is_clear]
    above = [score.arm for score in clear if score.against is not None and score.against.difference.mean > 0]
    below = [score.arm for score in clear if score.arm not in above]
    seeds = f"{scores[best].n_seeds} of {len(setting.seeds)} training seeds"
    alone = (
        " One training is known of each arm, so another training may order them otherwise."
        if tables.evaluation_noise_only
        else ""
    )
    return (
        f"{len(trained)} of {len(protocol.arms)} trained arms and {seeds} are run. At `{decoding}` the highest average "
        f"of a trained arm is {best}'s, {100 * scores[best].average.mean:.1f}. Clearly above {tables.baseline}: "
        f"{', '.join(above) or 'none'}; clearly below: {', '.join(below) or 'none'}.{alone}"
    )


def _by_seed(results: Sequence[Mapping[str, Any]], decoding: str) -> str:
    """Per cent right of each training seed."""
    return ", ".join(f"{100 * fmean(result['evaluations'][decoding]['shares']):.1f}" for result in results)


def _score_row(score: ArmScore, by_seed: str) -> list[str]:
    average, effects = score.average, score.effects
    against, p = "", ""
    if score.against is not None and score.p_holm is not None:
        gap = score.against.difference
        against = f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f}, {100 * gap.high:+.1f}){'*' if score.is_clear else ''}"
        p = p_in_words(score.p_holm)
    return [
        score.arm,
        by_seed,
        f"{100 * average.mean:.1f} ({100 * average.low:.1f}–{100 * average.high:.1f})",
        against,
        p,
        f"{100 * effects.truncated:.0f} %",
        f"{effects.mean_tokens:.0f}",
        f"{effects.distinct_answers:.2f}",
    ]


def _effect_figures(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Calibration and forgetting, which are measured with the first seed."""
    effects = results[0].get("effects")
    return (
        ["", ""] if effects is None else [f"{effects['calibration']['ece']:.3f}", f"{effects['forgetting']['kl']:.4f}"]
    )


def _teacher_row(setting: RealSetting, results: Path, decoding: str, columns: int) -> list[list[str]]:
    result = read_unit(Unit(setting.name, "teacher", TEACHER_ARM, setting.seeds[0]), results)
    if result is None or decoding not in result["evaluations"]:
        return []
    mean = f"{100 * fmean(result['evaluations'][decoding]['shares']):.1f}"
    return [["the teacher", mean, mean, *[""] * (columns - 3)]]


def rates_table(protocol: RealProtocol, setting: RealSetting, results: Path) -> str:
    """Development averages by arm and rate; the one that was chosen in bold."""
    if len(setting.rates) == 1:
        return f"One rate, {setting.rates[0]:g}, for every arm."
    rows = []
    for arm in protocol.arms:
        found = {trial.rate: read_unit(trial, results) for trial in trials_of(setting, arm)}
        averages = {rate: development_average(result) for rate, result in found.items() if rate and result}
        best = chosen_rate(setting, averages) if len(averages) == len(setting.rates) else None
        shown = {rate: f"{100 * average:.1f}" for rate, average in averages.items()}
        cells = [f"**{shown[rate]}**" if rate == best else shown.get(rate, "") for rate in setting.rates]
        rows.append([arm.name, *cells])
    return markdown(["arm", *(f"rate {rate:g}" for rate in setting.rates)], rows)


def costs_table(tests: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """What each arm's training measured and cost, and what answering cost: means over the seeds of one machine, with
    its name where there are several."""
    if not any(tests.values()):
        return NOT_RUN
    of_machine: dict[str, list[list[str]]] = {}
    for name, results in tests.items():
        for machine in dict.fromkeys(map(_machine, results)):
            there = [result for result in results if _machine(result) == machine]
            of_machine.setdefault(machine, []).append(_cost_row(name, there))
    head = ["arm", "rate", "nll", "entropy", "trust", "training, CPU s", "peak GiB"]
    head += ["learned from, tokens a CPU s", "answering, CPU s", "written, tokens a CPU s"]
    if len(of_machine) == 1:
        return markdown(head, *of_machine.values())
    rows = [[*row, machine] for machine, rows in of_machine.items() for row in rows]
    return markdown([*head, "machine"], rows)


def _machine(result: Mapping[str, Any]) -> str:
    return str(result["made_with"]["device"])


def _cost_row(name: str, results: Sequence[Mapping[str, Any]]) -> list[str]:
    trained = [result["training"] for result in results if result["training"]]
    cells = [name, "", "", "", "", "", "", ""]
    if trained:
        first, last = (_mean_log_line(trained, place) for place in (0, -1))
        cpu = fmean(each["cost"]["cpu_seconds"] for each in trained)
        cells[1] = f"{results[0]['rate']:g}"
        cells[2:5] = [_change(first, last, key) for key in ("nll", "entropy", "trust")]
        cells[5:7] = [f"{cpu:.0f}", f"{max(each['cost']['peak_gib'] for each in trained):.1f}"]
        cells[7] = f"{last['num_tokens'] / cpu:.0f}" if last.get("num_tokens") else ""
    answered = [evaluation for result in results for evaluation in result["evaluations"].values()]
    if not answered:
        return [*cells, "", ""]
    seconds = fmean(each["cost"]["cpu_seconds"] for each in answered)
    return [*cells, f"{seconds:.0f}", f"{fmean(map(_tokens_written, answered)) / seconds:.0f}"]


def _mean_log_line(trained: Sequence[Mapping[str, Any]], place: int) -> dict[str, float]:
    """The first (`place` 0) or the last (−1) line of the log, each figure averaged over trainings."""
    lines = [each["log"][place] for each in trained if each["log"]]
    names = set.intersection(*(set(line) for line in lines)) if lines else set()
    return {name: fmean(line[name] for line in lines) for name in names if isinstance(lines[0][name], int | float)}


def _change(first: Mapping[str, float], last: Mapping[str, float], key: str) -> str:
    return f"{first[key]:.3f} → {last[key]:.3f}" if key in first and key in last else ""


def _tokens_written(evaluation: Mapping[str, Any]) -> float:
    samples = next(text for name, text in evaluation["files"].items() if name.endswith("samples.jsonl"))
    return float(sum(json.loads(line)["n_tokens"] for line in samples.splitlines()))


def caches_table(protocol: RealProtocol, results: Path) -> str:
    """What each teacher's cache holds."""
    rows = []
    for setting in protocol.settings:
        found = read_unit(Unit(setting.name, "cache"), results)
        if found is not None:
            low = found["percentiles"]["1"]
            cells = [f"{found['tokens']:,}", f"{found['bytes_per_token']:.1f}", f"{found['mean_captured']:.4f}"]
            rows.append([setting.name, *cells, f"{low:.3f}", f"{found['cost']['cpu_seconds']:.0f}"])
    head = ["setting", "tokens", "bytes a token", "mass captured, mean", "1st percentile", "CPU s"]
    return markdown(head, rows) if rows else NOT_RUN


def tokens_tables(protocol: RealProtocol, results: Path) -> dict[str, str]:
    """What student and teacher say at real tokens, and each arm's trust there."""
    found = {each.name: read_unit(Unit(each.name, "tokens"), results) for each in protocol.settings}
    seen = {name: result for name, result in found.items() if result is not None}
    if not seen:
        return {"tokens": NOT_RUN, "trust": NOT_RUN, "unlikely": NOT_RUN}
    quantiles = list(next(iter(seen.values()))["student"]["p_y"]["quantiles"])
    head = ["setting", "tokens", "of", "mean", *(f"{100 * float(q):g} %" for q in quantiles)]
    spread = [
        [name, f"{result['tokens']:,}", f"{side} {what}", *_spread_cells(result[side][what])]
        for name, result in seen.items()
        for side in ("student", "teacher")
        for what in ("p_y", "entropy")
    ]
    trust = [
        [name, arm, *(f"{figures[each]:.3f}" for each in ("trust", "variation", "kl"))]
        for name, result in seen.items()
        for arm, figures in result["arms"].items()
    ]
    keys = ("agree", "unlikely_share", "unlikely_push", "unlikely_to_teacher", "likely_to_teacher")
    unlikely = [[name, *(f"{100 * result[key]:.0f} %" for key in keys)] for name, result in seen.items()]
    heads = ["setting", "likeliest token agrees", "p_y below .1", "their share of sft's push"]
    return {
        "tokens": markdown(head, spread),
        "trust": markdown(["setting", "arm", "trust", "total variation", "KL(Q‖p), nats"], trust),
        "unlikely": markdown([*heads, "teacher below .1 there", "teacher above .5 there"], unlikely),
    }


def _spread_cells(spread: Mapping[str, Any]) -> list[str]:
    return [f"{value:.3f}" for value in (spread["mean"], *spread["quantiles"].values())]
