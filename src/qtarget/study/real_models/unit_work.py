"""What each kind of unit does: rows, teacher, cache, a look at tokens, trials and tests of an arm."""

from collections.abc import Callable
from importlib.metadata import version
from platform import machine
from threading import Lock
from typing import Any

import torch

from qtarget.study.quiet import quiet
from qtarget.study.real_models.arm_answers import answers_at, effects_of_model
from qtarget.study.real_models.arm_models import arm_model, teacher_cache_facts, teacher_model
from qtarget.study.real_models.rationale_tokens import look_at_tokens
from qtarget.study.real_models.real_protocol import BASELINE_ARM, RealSetting
from qtarget.study.real_models.real_rows import GYM_SOURCE, OWN_SUMS, RealRow, made_rows, parts_digest, write_parts
from qtarget.study.real_models.real_study import RealStudy
from qtarget.study.real_models.study_units import Unit, UnitKind, chosen_rate, development_average, trials_of
from qtarget.study.real_models.unit_files import path_of_unit, read_unit

ROWS_KEPT_OF = (GYM_SOURCE, OWN_SUMS)
"""Sources whose rows are kept with the results, so that they are there again without an installation."""
_ONE_LOOK = Lock()
"""Units of the kind "tokens" run in this process, one after the other: `quiet` changes what all threads share."""
_PACKAGES = ("qtarget", "torch", "transformers", "trl", "peft")


def conduct_unit(unit: Unit, study: RealStudy) -> dict[str, Any]:
    """Do a unit and return its result, which the caller keeps.

    Raises:
        ValueError: rows or models that do not fit, or a command that failed.
    """
    setting = study.protocol.setting(unit.setting)
    kinds: dict[UnitKind, Callable[[Unit, RealSetting, RealStudy], dict[str, Any]]] = {
        "rows": _rows, "teacher": _teacher, "cache": _cache, "tokens": _tokens, "tuning": _trial, "test": _test
    }  # fmt: skip
    if unit.kind != "rows":
        bring_rows(setting, study)
    return {**kinds[unit.kind](unit, setting, study), "made_with": _made_with(study)}


def _made_with(study: RealStudy) -> dict[str, str]:
    precision = ", bfloat16" if study.bf16 else ""
    on_processor = f"{torch.get_num_threads()} threads{precision}"
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else on_processor
    return {**{name: version(name) for name in _PACKAGES}, "machine": machine(), "device": device}


def _rows(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    parts = made_rows(setting, study.rows.get(setting.rows.source))
    kept = {name: [vars(row) for row in rows] for name, rows in parts.items()}
    sizes = {name: len(rows) for name, rows in parts.items()}
    is_ours = setting.rows.source in ROWS_KEPT_OF
    return {"sha256": parts_digest(parts), "rows": sizes, **({"kept": kept} if is_ours else {})}


def bring_rows(setting: RealSetting, study: RealStudy) -> None:
    """Write the files of a setting's rows, from the kept rows or made anew.

    Raises:
        ValueError: they are not the rows that earlier units had.
    """
    unit = Unit(setting.name, "rows")
    result = read_unit(unit, study.results)
    assert result is not None  # comes first
    if "kept" in result:
        parts = {name: [RealRow(**row) for row in rows] for name, rows in result["kept"].items()}
    else:
        parts = made_rows(setting, study.rows.get(setting.rows.source))
    if parts_digest(parts) != result["sha256"]:
        raise ValueError(
            f"{setting.name}: the rows of {setting.rows.source} are not those of the units that are done "
            f"({path_of_unit(unit, study.results)}); give the same ones by --rows {setting.rows.source}=FOLDER."
        )
    write_parts(parts, study.home(setting), setting.prompt)


def _teacher(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    model, training = teacher_model(setting, study)
    chosen = {name: study.protocol.decodings[name] for name in setting.teacher_decodings}
    return {"training": training, "evaluations": answers_at(unit, setting, study, model, "test", chosen)}


def _cache(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    return teacher_cache_facts(setting, study)


def _tokens(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    teacher, _ = teacher_model(setting, study)
    rows = study.home(setting) / "train.jsonl"
    with _ONE_LOOK, quiet():
        return look_at_tokens(study.model(setting.student), teacher, rows, setting.prompt, study.protocol)


def _trial(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    assert unit.rate is not None
    model, training = arm_model(unit, unit.rate, setting, study)
    tuned_at = study.protocol.tuned_at
    trial = study.protocol.decodings[tuned_at].model_copy(update={"k": study.protocol.tuning_k})
    asked = answers_at(unit, setting, study, model, "development", {tuned_at: trial})
    return {"rate": unit.rate, "training": training, "evaluations": asked}


def _test(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    found: dict[str, Any]
    if unit.arm == BASELINE_ARM:
        model, found = study.model(setting.student), {"training": {}}
    else:
        rate = rate_of_arm(setting, unit.arm, study)
        model, training = arm_model(unit, rate, setting, study)
        found = {"rate": rate, "training": training}
    asked = answers_at(unit, setting, study, model, "test", study.protocol.decodings)
    return {**found, "evaluations": asked, **effects_of_model(unit, setting, study, model)}


def rate_of_arm(setting: RealSetting, arm: str, study: RealStudy) -> float:
    """The learning rate that an arm's trials chose; all of them are done by then."""
    averages = {}
    for trial in trials_of(setting, study.protocol.arm(arm)):
        result = read_unit(trial, study.results)
        assert result is not None  # comes first
        assert trial.rate is not None
        averages[trial.rate] = development_average(result)
    return chosen_rate(setting, averages)
