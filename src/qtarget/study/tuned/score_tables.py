"""Tables of every arm by itself: its score in each setting, what was chosen for it, and its effects."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from qtarget.disk.pages import markdown
from qtarget.study.tuned.analysis import Curve, SettingResult, without_control
from qtarget.study.tuned.design import TEACHER, Choice, TunedStudy
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.study_cells import NOTHING_YET, arms_with_the_common_decoding
from qtarget.study.tuned.tuned_arms import (
    COMMON,
    DECODINGS,
    GREEDY,
    RATES,
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
    return [_per_cent(result.teacher_mean(decoding))] if result.teachers else []


def setting_table(study: TunedStudy, result: SettingResult) -> str:
    """One setting, an arm a row: at the primary decoding, greedy, at temperature 1, and what was chosen."""
    rows = []
    for arm in study.arms:
        own = result.arms[arm.name]
        others = [_per_cent(own.mean(decoding)) for decoding in (GREEDY, WHOLE_SOFTMAX)]
        rows.append([arm.name, _score(result, arm), *others, _chosen(arm, own.choice).partition(":")[0]])
    if result.teachers:
        rows.append([TEACHER, *(_per_cent(result.teacher_mean(each)) for each in (COMMON, GREEDY, WHOLE_SOFTMAX)), ""])
    return markdown([result.setting.name, COMMON.label, GREEDY.label, WHOLE_SOFTMAX.label, "chosen"], rows)


def _per_cent(share: float) -> str:
    return f"{100 * share:.1f}"


def _score(result: SettingResult, arm: StudyArm) -> str:
    own = result.arms[arm.name]
    low, high = own.interval()
    mean = _per_cent(own.mean())
    return f"{f'**{mean}**' if arm.name == result.first else mean} ({100 * low:.0f}–{100 * high:.0f})"


def decoding_table(study: TunedStudy, found: Sequence[SettingResult], decoding: Decoding) -> str:
    """Per cent right at a decoding that nothing was tuned at; the highest arm in bold."""
    arms = arms_with_the_common_decoding(study)
    if not found:
        return NOTHING_YET
    rows = []
    for result in found:
        means = {arm.name: result.arms[arm.name].mean(decoding) for arm in arms}
        best = max(means.values())
        cells = [f"**{_per_cent(mean)}**" if mean == best else _per_cent(mean) for mean in means.values()]
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
    return f"{', '.join(words)}: {_per_cent(choice.score)}"


def configuration_words(configuration: Configuration) -> str:
    """A configuration in words, as "η 0.5, ×3, 500": knobs, rate, steps."""
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
    here = without_control(found)
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


def sweep_table(swept: dict[Setting, list[Curve]]) -> str:
    """Scores by rate and steps, and how much the worst rate costs at the larger number of steps."""
    if not swept:
        return NOTHING_YET
    rows: list[list[str]] = []
    for setting, lines in swept.items():
        for method in dict.fromkeys(line.method for line in lines):
            own = sorted((line for line in lines if line.method == method), key=lambda line: line.steps)
            cells = [_per_cent(line.by_rate[rate]) for line in own for rate in RATES]
            rows.append([setting.name, method, *cells, _per_cent(own[-1].spread)])
    steps = sorted({line.steps for lines in swept.values() for line in lines})
    columns = [f"×{rate:g}, {number}" for number in steps for rate in RATES]
    return markdown(["setting", "method", *columns, f"best − worst rate, {steps[-1]} steps"], rows)
