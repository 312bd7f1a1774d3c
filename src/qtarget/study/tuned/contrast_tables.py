"""Tables of one arm beside another: Target-SFT and its rivals, named contrasts, and each arm beside the best one."""

from collections.abc import Sequence
from statistics import fmean

from qtarget.disk.pages import markdown
from qtarget.study.tuned.analysis import (
    PrimaryVerdict,
    SettingResult,
    ahead_of,
    best_rival,
    primary_verdicts,
    regrets,
    without_control,
)
from qtarget.study.tuned.design import TunedStudy
from qtarget.study.tuned.study_cells import NOTHING_YET, arms_with_the_common_decoding, points
from qtarget.study.tuned.tuned_arms import COMMON, GREEDY, OURS, WHOLE_SOFTMAX, Decoding

COMMON_RIVALS = ("sft", "dft", "kd")
"""Arms that Target-SFT is set beside in every setting, whichever was best."""


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
        rows.append([each.setting.name, f"{each.ours} − {each.rival}", points(each.difference), _p(each.difference.p),
                     _p(each.holm), each.word, *map(points, besides)])  # fmt: skip
    columns = ["setting", "contrast", COMMON.label, "p", "p (Holm)", "verdict", *(each.label for each in others)]
    return markdown(columns, rows)


def _verdict_cells(verdict: PrimaryVerdict, result: SettingResult) -> list[str]:
    return [verdict.rival, points(verdict.difference), _p(verdict.holm), verdict.word, result.first]


def other_decodings_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """The primary contrast's models at temperature 0 and 1, in points."""
    here = without_control(found)
    return _differences([(result, best_rival(study.arms, result)) for result in here], (GREEDY, WHOLE_SOFTMAX))


def alike_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """Target-SFT and the best rival whose decoding is not tuned, at three decodings, in points."""
    here, arms = without_control(found), arms_with_the_common_decoding(study)
    return _differences([(result, best_rival(arms, result)) for result in here], (COMMON, GREEDY, WHOLE_SOFTMAX))


def common_rivals_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """Target-SFT beside each method that people take for granted, at the primary decoding, in points."""
    if not found:
        return NOTHING_YET
    names = [arm.name for arm in study.arms if arm.name in COMMON_RIVALS]
    rows = [[result.setting.name, *(points(ahead_of(result, name)) for name in names)] for result in found]
    return markdown(["setting", *(f"{OURS} minus {name}" for name in names)], rows)


def regret_table(study: TunedStudy, found: Sequence[SettingResult]) -> str:
    """How far each arm is behind the best of its setting, at three decodings: the mean over settings and the most."""
    here, arms = without_control(found), arms_with_the_common_decoding(study)
    if not here:
        return NOTHING_YET
    decodings = (COMMON, GREEDY, WHOLE_SOFTMAX)
    by_decoding = [regrets(here, arms, decoding) for decoding in decodings]
    rows = [[arm.name, *(_regret_cell(each[arm.name]) for each in by_decoding)] for arm in arms]
    return markdown(["arm", *(decoding.label for decoding in decodings)], rows)


def _regret_cell(by_setting: Sequence[float]) -> str:
    return f"{100 * fmean(by_setting):.1f}, at most {100 * max(by_setting):.1f}"


def _differences(pairs: Sequence[tuple[SettingResult, str]], decodings: Sequence[Decoding]) -> str:
    if not pairs:
        return NOTHING_YET
    rows = [
        [result.setting.name, rival, *(points(ahead_of(result, rival, each)) for each in decodings)]
        for result, rival in pairs
    ]
    return markdown(["setting", "rival", *(f"{OURS} minus it, {each.label}" for each in decodings)], rows)


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"
