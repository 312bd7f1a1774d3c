"""The models of a setting: its teacher, the teacher's cache, and each arm's, trained where they are not there yet."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from qtarget.disk.files import read_json_object, replace_text, write_json
from qtarget.study.own_commands import printed_by, run_qtarget
from qtarget.study.real_models.real_protocol import TEACHER_ARM, RealSetting
from qtarget.study.real_models.real_study import RealStudy
from qtarget.study.real_models.study_units import Unit


def teacher_model(setting: RealSetting, study: RealStudy) -> tuple[str, dict[str, Any]]:
    """The teacher's folder or name, and what training it gave; it is trained first where none is named."""
    if setting.teacher:
        return study.model(setting.teacher), {}
    keys = {**setting.teacher_training, "method": "sft", "seed": setting.seeds[0]}
    return _trained(TEACHER_ARM, keys, "teacher", setting, study)


def teacher_cache_facts(setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    """What the teacher's cache holds and cost; it is written first where it is not there."""
    home = study.home(setting)
    folder, facts = home / "cache", home / "cache.json"
    if folder.is_dir() and facts.is_file():
        return read_json_object(facts, f"delete it and {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    teacher, _ = teacher_model(setting, study)
    keys = {"method": "target-sft", "eta": 0.5, "teacher": teacher, "teacher_cache": str(folder)}
    config = _write_config("cache", keys, "train", setting, study)
    cost = run_qtarget(["teacher", "cache", str(config)], home / "log" / "cache.log", study.around)
    report = json.loads(printed_by(["teacher", "verify", str(folder), "--json"]))
    wanted = ("documents", "tokens", "bytes", "bytes_per_token", "mean_captured", "percentiles", "label_outside")
    found = {"cost": asdict(cost), **{name: report[name] for name in wanted}}
    write_json(facts, found)
    return found


def arm_model(unit: Unit, rate: float, setting: RealSetting, study: RealStudy) -> tuple[str, dict[str, Any]]:
    """The folder of an arm's model, and what its training gave."""
    arm = study.protocol.arm(unit.arm)
    keys: dict[str, Any] = {"method": arm.method, **arm.values, "learning_rate": rate, "seed": unit.seed}
    if arm.needs_teacher:
        teacher_cache_facts(setting, study)
        keys["teacher_cache"] = str(study.home(setting) / "cache")
    return _trained(f"{arm.name}-rate{rate:g}-seed{unit.seed}", keys, "train", setting, study)


def _trained(
    name: str, keys: Mapping[str, Any], rows: str, setting: RealSetting, study: RealStudy
) -> tuple[str, dict[str, Any]]:
    """A trained model's folder and what its training gave: as an earlier unit left it, or trained now, from the first
    step where an earlier training was stopped."""
    home = study.home(setting)
    folder, facts = home / "models" / name, home / "models" / f"{name}.json"
    if folder.is_dir() and facts.is_file():
        return str(folder), read_json_object(facts, f"delete it and {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    config = _write_config(name, {**keys, "output_dir": str(folder)}, rows, setting, study)
    cost = run_qtarget(["train", str(config)], home / "log" / f"{name}.log", study.around)
    found = {"method": keys["method"], "cost": asdict(cost), **_history(folder)}
    write_json(facts, found)
    return str(folder), found


def _history(folder: Path) -> dict[str, Any]:
    """What a training measured, and how its measures went from the first line of its log to the last."""
    state = (
        read_json_object(folder / "trainer_state.json", "train again")
        if (folder / "trainer_state.json").is_file()
        else {}
    )
    lines = [line for line in state["log_history"] if "nll" in line]
    return {"metrics": read_json_object(folder / "metrics.json", "train again"), "log": [*lines[:1], *lines[-1:]]}


def _write_config(name: str, keys: Mapping[str, Any], rows: str, setting: RealSetting, study: RealStudy) -> Path:
    """The configuration of a run, which all arms share but for `keys`."""
    home = study.home(setting)
    path = home / "config" / f"{name}.yaml"
    values = {
        "model": study.model(setting.student),
        "train_dataset": str(home / f"{rows}.jsonl"),
        "prompt_format": setting.prompt,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 0.1,
        "learning_rate": setting.rates[0],
        **setting.training,
        **({"bf16": True} if study.bf16 else {}),
        **keys,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, yaml.safe_dump(values, sort_keys=False))
    return path
