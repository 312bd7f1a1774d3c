"""The study's tables and sentences as Markdown, and a page with them filled in. They are true at every stage of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from qtarget.disk.pages import markdown, rewrite_page
from qtarget.evaluate.confidence import SeedsDifference
from qtarget.study.tuned.analysis import (
    Curve,
    PrimaryVerdict,
    SettingResult,
    ahead_of,
    best_rival,
    curves,
    finished_settings,
    primary_verdicts,
    regrets,
)
from qtarget.study.tuned.design import TEACHER, Choice, TunedStudy
from qtarget.study.tuned.own_context import context_table
from qtarget.study.tuned.picture import draw_curves, draw_settings
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.tuned_arms import (
    COMMON,
    DECODINGS,
    GREEDY,
    OURS,
    WHOLE_SOFTMAX,
    Configuration,
    Decoding,
    StudyArm,
    value_words,
)

EFFECT_COLUMNS = {
    "forgetting_kl": "KL from base",
    "ece": "ECE",
    "overconfidence": "confidence − accuracy",
    "true_nll": "nll of true text",
    "pass_at_k": "pass@k",
    "truncated_share": "cut off",
    "mean_tokens": "tokens",
}
"""Measures besides accuracy, and their headings."""
NOTHING_YET = "Not run yet."
COMMON_RIVALS = ("sft", "dft", "kd")
"""Arms that Target-SFT is set beside in every setting, whichever was best."""


def write_study_page(page: Path, study: TunedStudy, results: Path, others: Mapping[str, str] | None = None) -> None:
    """Write the page's tables and sentences anew, and its pictures beside it, as `study.png` and `study-sweep.png` for
    `study.md`; no second one for a study without a sweep.

    Args:
        others: parts of another study that stand on the page too, by the names in its marks.
    """
    found, swept = finished_settings(study, results), swept_curves(study, results)
    rewrite_page(page, study_parts(study, found, swept) | {"context": context_table(results)} | dict(others or {}))
    draw_settings(study, found, page.with_name(f"{page.stem}.png"))
    if study.sweep:
        draw_curves(swept, page.with_name(f"{page.stem}-sweep.png"))


def swept_curves(study: TunedStudy, results: Path) -> dict[Setting, list[Curve]]:
    """The finished sweeps by their setting."""
    found = {setting: curves(study, setting, results) for setting in study.sweep}
    return {setting: lines for setting, lines in found.items() if lines}


def study_parts(study: TunedStudy, found: Sequence[SettingResult], swept: dict[Setting, list[Curve]]) -> dict[str, str]:
    """The tables and sentences by the names in the page's marks."""
    return {
        "state": state_sentence(study, found),
        "count": count_sentence(study, found),
        "models": models_table(study),
        "students": students_sentence(study, found),
        "scores": scores_table(study, found),
        "verdicts": verdict_table(study, found),
        **(_beside_ours(study, found) if any(arm.name == OURS for arm in study.arms) else {}),
        "regret": regret_table(study, found),
        "greedy": decoding_table(study, found, GREEDY),
        "softmax": decoding_table(study, found, WHOLE_SOFTMAX),
        "chosen": choice_table(study, found),
        "effects": effects_table(study, found),
        "configurations": configurations_table(study),
        "sweep": sweep_table(study, swept),
        "design": design_sentence(study),
        "runs": runs_sentence(found),
    }


def _beside_ours(study: TunedStudy, found: Sequence[SettingResult]) -> dict[str, str]:
    """The parts that are about Target-SFT."""
    return {
        "others": other_decodings_table(study, found),
        "alike": alike_table(study, found),
        "common": common_rivals_table(study, found),
    }


def state_sentence(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """How much of the study is there."""
    all_of_them = len(study.settings)
    if len(found) == all_of_them:
        return f"All {all_of_them} settings are run."
    missing = all_of_them - len(found)
    return (
        f"**Not run yet: {missing} of {all_of_them} settings.** What stands here is of the others; the primary outcome "
        "is the whole, and until then its adjusted p counts the missing settings as if they showed nothing."
    )


def count_sentence(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """The primary outcome in two sentences."""
    verdicts = primary_verdicts(study, found)
    if not verdicts:
        return NOTHING_YET
    if study.contrasts:
        return contrasts_sentence(study, verdicts)
    words, named = Counter(verdict.word for verdict in verdicts), Counter(verdict.rival for verdict in verdicts)
    firsts = Counter(result.first for result in found if not result.setting.is_control)
    return (
        f"In {len(verdicts)} setting{'s' if len(verdicts) > 1 else ''} Target-SFT is clearly ahead of its best tuned "
        f"rival in **{words['clearly ahead']}**, clearly behind in **{words['clearly behind']}**, and not told apart "
        f"from it in **{words['not told apart']}**. The rival was {_listed(named)}. The highest mean in the test has: "
        f"{_listed(firsts)}."
    )


def contrasts_sentence(study: TunedStudy, verdicts: Sequence[PrimaryVerdict]) -> str:
    """What of the study's named contrasts was told apart."""
    told = [each for each in verdicts if each.word != "not told apart"]
    all_of_them = len(study.contrasts) * len(study.settings)
    named = [f"{each.ours} is {each.word.removeprefix('clearly ')} of {each.rival}" if each.difference.mean > 0 else
             f"{each.ours} is {each.word.removeprefix('clearly ')} {each.rival}" for each in told]  # fmt: skip
    after = (
        ""
        if not told
        else " These are: "
        + "; ".join(
            f"{words} in {each.setting.name} ({_points(each.difference)})"
            for words, each in zip(named, told, strict=True)
        )
        + "."
    )
    return (
        f"Of {all_of_them} contrasts, {len(verdicts)} are run, and **{len(told)}** of these "
        f"{'is' if len(told) == 1 else 'are'} told apart after Holm's adjustment.{after}"
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}×" for name, number in counts.most_common())


def models_table(study: TunedStudy) -> str:
    """What students and teachers were pre-trained on."""
    students = {f"student *{each.student}*": each.world.student for each in study.settings}
    models = students | {f"teacher *{each.teacher}*": each.world.teacher for each in study.settings if each.teacher}
    rows = [
        [name, f"{model.width}", f"{model.layers}", f"{100 * model.writer.slips:g} %",
         f"{100 * model.writer.misbelieved:g} %", f"{model.writer.operators[2]:g}"]
        for name, model in models.items()
    ]  # fmt: skip
    columns = ["", "width", "layers", "steps wrong, at random", "facts wrong, always", "products for each sum"]
    return markdown(columns, rows)


def students_sentence(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """What students and teachers know before any training."""
    if not found:
        return NOTHING_YET
    bases = [100 * result.base_greedy for result in found if not result.setting.is_control]
    teachers: dict[str, SettingResult] = {result.setting.teacher: result for result in found if result.teachers}
    known = ", ".join(f"{name} {_at_both(each)}" for name, each in teachers.items())
    control = [100 * result.base_greedy for result in found if result.setting.is_control]
    after = f"; in the control, {control[0]:.0f} %" if control else ""
    low, high = (f"{end:.0f}" for end in (min(bases, default=0), max(bases, default=0)))
    return (
        f"Right before any training, at temperature 0: the students in {low if low == high else f'{low} to {high}'} % "
        f"of the test questions, by setting{after}." + (f" The teachers: {known}." if known else "")
    )


def _at_both(result: SettingResult) -> str:
    cold, warm = (f"{100 * result.teacher_mean(each):.0f} %" for each in (GREEDY, WHOLE_SOFTMAX))
    return f"{cold} at temperature 0 and {warm} at temperature 1"


def scores_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """The primary measure: mean over students, seeds and questions, with its interval; the highest arm in bold."""
    if not found:
        return NOTHING_YET
    rows = [
        [result.setting.name, *(_score(result, arm) for arm in study.arms), *_teachers_cell(result, COMMON)]
        for result in found
    ]
    return markdown(["setting", *(arm.name for arm in study.arms), *_teachers_column(study)], rows)


def _teachers_column(study: TunedStudy) -> list[str]:
    """Its heading, in a study that has teachers."""
    return [TEACHER] if study.settings[0].teacher else []


def _teachers_cell(result: SettingResult, decoding: Decoding) -> list[str]:
    return [f"{100 * result.teacher_mean(decoding):.1f}"] if result.teachers else []


def setting_table(study: TunedStudy, result: SettingResult) -> str:
    """One setting, an arm a row: at the primary decoding, greedy, at temperature 1, and what was chosen."""
    rows = [
        [arm.name, _score(result, arm), *(_at(result.arms[arm.name].mean(each)) for each in (GREEDY, WHOLE_SOFTMAX)),
         _chosen(arm, result.arms[arm.name].choice).partition(":")[0]]
        for arm in study.arms
    ]  # fmt: skip
    if result.teachers:
        rows.append([TEACHER, *(_at(result.teacher_mean(each)) for each in (COMMON, GREEDY, WHOLE_SOFTMAX)), ""])
    return markdown([result.setting.name, COMMON.label, GREEDY.label, WHOLE_SOFTMAX.label, "chosen"], rows)


def _at(mean: float) -> str:
    return f"{100 * mean:.1f}"


def _score(result: SettingResult, arm: StudyArm) -> str:
    own = result.arms[arm.name]
    low, high = own.interval()
    mean = f"{100 * own.mean():.1f}"
    return f"{f'**{mean}**' if arm.name == result.first else mean} ({100 * low:.0f}–{100 * high:.0f})"


def verdict_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """The primary contrast, or each that the study names, in points."""
    if study.contrasts:
        return contrasts_table(study, found)
    verdicts = {verdict.setting: verdict for verdict in primary_verdicts(study, found)}
    if not verdicts:
        return NOTHING_YET
    rows = [[result.setting.name, *_verdict_cells(verdicts[result.setting], result)]
            for result in found if result.setting in verdicts]  # fmt: skip
    columns = ["setting", "best rival", f"{OURS} minus it", "p (Holm)", "verdict", "first"]
    return markdown(columns, rows)


def contrasts_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """Each contrast that the study names in each finished setting, at the primary decoding and at two others."""
    verdicts, of_setting = primary_verdicts(study, found), {result.setting: result for result in found}
    if not verdicts:
        return NOTHING_YET
    others = (GREEDY, WHOLE_SOFTMAX)
    rows = []
    for each in verdicts:
        besides = (ahead_of(of_setting[each.setting], each.rival, decoding, each.ours) for decoding in others)
        rows.append([each.setting.name, f"{each.ours} − {each.rival}", _points(each.difference), _p(each.difference.p),
                     _p(each.holm), each.word, *map(_points, besides)])  # fmt: skip
    columns = ["setting", "contrast", COMMON.label, "p", "p (Holm)", "verdict", *(each.label for each in others)]
    return markdown(columns, rows)


def _verdict_cells(verdict: PrimaryVerdict, result: SettingResult) -> list[str]:
    return [verdict.rival, _points(verdict.difference), _p(verdict.holm), verdict.word, result.first]


def other_decodings_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """The primary contrast's models at temperature 0 and 1, in points."""
    here = [result for result in found if not result.setting.is_control]
    return _differences([(result, best_rival(study.arms, result)) for result in here], (GREEDY, WHOLE_SOFTMAX))


def alike_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """Target-SFT and the best rival whose decoding is not tuned, at three decodings, in points."""
    here, arms = [result for result in found if not result.setting.is_control], _plainly_decoded(study)
    return _differences([(result, best_rival(arms, result)) for result in here], (COMMON, GREEDY, WHOLE_SOFTMAX))


def common_rivals_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """Target-SFT beside each method that people take for granted, at the primary decoding, in points."""
    if not found:
        return NOTHING_YET
    names = [arm.name for arm in study.arms if arm.name in COMMON_RIVALS]
    rows = [[result.setting.name, *(_points(ahead_of(result, name)) for name in names)] for result in found]
    return markdown(["setting", *(f"{OURS} minus {name}" for name in names)], rows)


def regret_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """How far each arm is behind the best of its setting, at three decodings: the mean over settings and the most."""
    here, arms = [result for result in found if not result.setting.is_control], _plainly_decoded(study)
    if not here:
        return NOTHING_YET
    decodings = (COMMON, GREEDY, WHOLE_SOFTMAX)
    by_decoding = [regrets(here, arms, decoding) for decoding in decodings]
    rows = [[arm.name, *(_regret_cell(each[arm.name]) for each in by_decoding)] for arm in arms]
    return markdown(["arm", *(decoding.label for decoding in decodings)], rows)


def _regret_cell(by_setting: Sequence[float]) -> str:
    return f"{100 * fmean(by_setting):.1f}, at most {100 * max(by_setting):.1f}"


def _plainly_decoded(study: TunedStudy) -> list[StudyArm]:
    return [arm for arm in study.arms if not arm.tunes_decoding]


def _differences(pairs: Sequence[tuple[SettingResult, str]], decodings: Sequence[Decoding]) -> str:
    if not pairs:
        return NOTHING_YET
    rows = [
        [result.setting.name, rival, *(_points(ahead_of(result, rival, each)) for each in decodings)]
        for result, rival in pairs
    ]
    return markdown(["setting", "rival", *(f"{OURS} minus it, {each.label}" for each in decodings)], rows)


def _points(gap: SeedsDifference) -> str:
    return f"{100 * gap.mean:+.1f} ({100 * gap.low:+.1f} … {100 * gap.high:+.1f})"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def decoding_table(study: TunedStudy, found: Sequence[SettingResult], decoding: Decoding) -> str:
    """Per cent right at another decoding than the one that was tuned for; the highest arm in bold."""
    arms = _plainly_decoded(study)
    if not found:
        return NOTHING_YET
    rows = []
    for result in found:
        means = {arm.name: result.arms[arm.name].mean(decoding) for arm in arms}
        best = max(means.values())
        cells = [f"**{100 * mean:.1f}**" if mean == best else f"{100 * mean:.1f}" for mean in means.values()]
        rows.append([result.setting.name, *cells, *_teachers_cell(result, decoding)])
    return markdown(["setting", *(arm.name for arm in arms), *_teachers_column(study)], rows)


def choice_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """What was chosen for each arm in each setting, with its score on the development questions."""
    if not found:
        return NOTHING_YET
    arms = [arm for arm in study.arms if arm.configurations or arm.tunes_decoding]
    rows = [[result.setting.name, *(_chosen(arm, result.arms[arm.name].choice) for arm in arms)] for result in found]
    return markdown(["setting", *(arm.name for arm in arms)], rows)


def _chosen(arm: StudyArm, choice: Choice) -> str:
    words = [] if choice.configuration is None else [configuration_words(choice.configuration)]
    words += [choice.decoding.label] if arm.tunes_decoding else []
    return f"{', '.join(words)}: {100 * choice.score:.1f}"


def configuration_words(configuration: Configuration) -> str:
    """As in "η 0.5, ×3, 500"."""
    signs = {"eta": "η", "teacher_weight": "λ", "teacher_temperature": "t at T"}
    knobs = [f"{signs.get(name, name)} {_spelled(value)}" for name, value in configuration.knobs.items()]
    return ", ".join([*knobs, f"×{configuration.rate:g}", f"{configuration.steps}"])


def _spelled(value: Any) -> str:
    """A knob's value, a schedule as in "0.2 → 0.8 cosine"."""
    if not isinstance(value, Mapping):
        return value_words(value, "")
    said = {"shape": "", "along": "along ", "until": "until "}
    rest = [said[name] + value_words(each, "") for name, each in value.items() if name in said]
    return " ".join([f"{value['from']:g} → {value['to']:g}", *rest])


def configurations_table(study: TunedStudy) -> str:
    """The six configurations of each arm: knob, rate, steps."""
    rows = []
    for arm in study.arms:
        words = [configuration_words(each) for each in arm.configurations] or ["nothing is trained"]
        words += [f"then a decoding of {', '.join(each.label for each in DECODINGS)}"] if arm.tunes_decoding else []
        rows.append([arm.name, "; ".join(words)])
    return markdown(["arm", "knob, rate, steps"], rows)


def effects_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """What each arm does besides accuracy: means over the settings but the control, and over seeds."""
    here = [result for result in found if not result.setting.is_control]
    if not here:
        return NOTHING_YET
    rows = []
    for arm in study.arms:
        means = {name: fmean(result.arms[arm.name].effect(name) for result in here) for name in EFFECT_COLUMNS}
        rows.append([arm.name, *(_effect_cell(name, value) for name, value in means.items())])
    return markdown(["", *EFFECT_COLUMNS.values()], rows)


def _effect_cell(name: str, value: float) -> str:
    if name in ("truncated_share", "pass_at_k"):
        return f"{100 * value:.1f} %"
    return f"{value:+.3f}" if name == "overconfidence" else f"{value:.1f}" if name == "mean_tokens" else f"{value:.3f}"


def sweep_table(study: TunedStudy, swept: dict[Setting, list[Curve]]) -> str:
    """Scores by rate and steps, and how much the worst rate costs at the larger number of steps."""
    if not swept:
        return NOTHING_YET
    rows, rates = [], [each.rate for each in study.arms[2].configurations][:3]
    for setting, lines in swept.items():
        for method in dict.fromkeys(line.method for line in lines):
            own = sorted((line for line in lines if line.method == method), key=lambda line: line.steps)
            cells = [f"{100 * line.by_rate[rate]:.1f}" for line in own for rate in rates]
            rows.append([setting.name, method, *cells, f"{100 * own[-1].spread:.1f}"])
    steps = sorted({line.steps for lines in swept.values() for line in lines})
    columns = [f"×{rate:g}, {number}" for number in steps for rate in rates]
    return markdown(["setting", "method", *columns, f"best − worst rate, {steps[-1]} steps"], rows)


def design_sentence(study: TunedStudy) -> str:
    """How much of everything, in sentences."""
    of_each = "each student and each teacher" if study.settings[0].teacher else "the student"
    return (
        f"{study.seeds} trainings of each arm in each setting, over {study.pretraining_seeds} pre-trainings of "
        f"{of_each}; {study.development} development questions and {study.test} in the test, "
        f"{study.samples} answers to each at {COMMON.label}; {study.demonstrations} rows, "
        f"{study.settings[0].world.batch_size} a step, ×1 is a learning rate of "
        f"{study.settings[0].world.learning_rate:g}."
    )


def runs_sentence(found: Sequence[SettingResult]) -> str:
    """How long the test's runs took, and with which versions."""
    by_name = {
        (outcome.run.place, outcome.run.name): outcome
        for result in found
        for outcomes in (result.teachers, *(arm.outcomes for arm in result.arms.values()))
        for outcome in outcomes
    }
    if not by_name:
        return NOTHING_YET
    outcomes = list(by_name.values())
    versions = ", ".join(f"{name} {number}" for name, number in outcomes[0].made_with.items() if name != "machine")
    hours = sum(outcome.seconds for outcome in outcomes) / 3600
    return f"The test's {len(outcomes)} runs took {hours:.1f} hours of one processor. {versions}."
