"""The models of a setting: its teacher with its cache, and each arm's. Each is made when it is first asked for."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from qtarget.disk.files import read_json_object, replace_text, write_json
from qtarget.disk.one_writer import remove_unwritten
from qtarget.study.own_commands import printed_by, run_qtarget
from qtarget.study.real_models.real_protocol import TEACHER_ARM, RealSetting
from qtarget.study.real_models.real_study import RealStudy
from qtarget.study.real_models.study_units import Unit


def teacher_model(setting: RealSetting, study: RealStudy) -> tuple[str, dict[str, Any]]:
    """The teacher's folder or hub name, and the facts of its training; {} for one that is not trained here."""
    if setting.teacher:
        return study.model(setting.teacher), {}
    keys = {**setting.teacher_training, "method": "sft", "seed": setting.seeds[0]}
    return _trained(TEACHER_ARM, keys, "teacher", setting, study)


def teacher_cache_facts(setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    """What the teacher's cache holds and cost; the cache is written where it is not there yet."""
    home = study.home(setting)
    folder, facts = home / "cache", home / "cache.json"
    if folder.is_dir() and facts.is_file():
        return read_json_object(facts, f"delete it and {folder}")
    remove_unwritten(folder)
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
    """The folder of an arm's model, and the facts of its training."""
    arm = study.protocol.arm(unit.arm)
    keys: dict[str, Any] = {"method": arm.method, **arm.values, "learning_rate": rate, "seed": unit.seed}
    if arm.needs_teacher:
        teacher_cache_facts(setting, study)
        keys["teacher_cache"] = str(study.home(setting) / "cache")
    return _trained(f"{arm.name}-rate{rate:g}-seed{unit.seed}", keys, "train", setting, study)


def _trained(
    name: str, keys: Mapping[str, Any], rows: str, setting: RealSetting, study: RealStudy
) -> tuple[str, dict[str, Any]]:
    """The folder of a trained model, and the facts of its training: as an earlier unit left them, or trained now. A
    training that was stopped begins anew.

    Args:
        rows: the part of the rows to train on, "train" or "teacher".
    """
    home = study.home(setting)
    folder, facts = home / "models" / name, home / "models" / f"{name}.json"
    if folder.is_dir() and facts.is_file():
        return str(folder), read_json_object(facts, f"delete it and {folder}")
    remove_unwritten(folder)
    config = _write_config(name, {**keys, "output_dir": str(folder)}, rows, setting, study)
    cost = run_qtarget(["train", str(config)], home / "log" / f"{name}.log", study.around)
    found = {"method": keys["method"], "cost": asdict(cost), **_history(folder)}
    write_json(facts, found)
    return str(folder), found


def _history(folder: Path) -> dict[str, Any]:
    """A training's last figures, and the first and the last line of its log."""
    remedy = f"delete {folder} to train it again"
    lines = [line for line in read_json_object(folder / "trainer_state.json", remedy)["log_history"] if "nll" in line]
    return {"metrics": read_json_object(folder / "metrics.json", remedy), "log": [*lines[:1], *lines[-1:]]}


def _write_config(name: str, keys: Mapping[str, Any], rows: str, setting: RealSetting, study: RealStudy) -> Path:
    """Write a configuration of `qtarget train`: what all arms share, and `keys` over it."""
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
