"""The page about the study: its tables, sentences and pictures, written anew from results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from qtarget.disk.pages import rewrite_page
from qtarget.study.tuned.analysis import Curve, SettingResult, curves, finished_settings
from qtarget.study.tuned.contrast_tables import (
    alike_table,
    common_rivals_table,
    other_decodings_table,
    regret_table,
    verdict_table,
)
from qtarget.study.tuned.design import TunedStudy
from qtarget.study.tuned.own_context import context_table
from qtarget.study.tuned.picture import draw_curves, draw_settings
from qtarget.study.tuned.score_tables import (
    choice_table,
    configurations_table,
    decoding_table,
    effects_table,
    models_table,
    scores_table,
    sweep_table,
)
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.study_sentences import (
    count_sentence,
    design_sentence,
    runs_sentence,
    state_sentence,
    students_sentence,
)
from qtarget.study.tuned.tuned_arms import GREEDY, OURS, WHOLE_SOFTMAX


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
        "sweep": sweep_table(swept),
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
