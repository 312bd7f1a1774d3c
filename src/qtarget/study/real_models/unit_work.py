"""What each kind of unit does: rows, teacher, cache, a look at tokens, trials and tests of an arm."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from platform import machine
from typing import Any

import torch
import yaml

from qtarget.disk.files import read_json_object, replace_text, write_json
from qtarget.evaluate.compare.arms import read_arm
from qtarget.evaluate.store import EFFECTS_FILE, RUN, SAMPLES, TASK
from qtarget.study.quiet import quiet
from qtarget.study.real_models.own_commands import printed_by, run_qtarget
from qtarget.study.real_models.rationale_tokens import look_at_tokens
from qtarget.study.real_models.real_protocol import BASELINE_ARM, TEACHER_ARM, Decoding, RealProtocol, RealSetting
from qtarget.study.real_models.real_rows import GYM_SOURCE, OWN_SUMS, RealRow, made_rows, parts_digest, write_parts
from qtarget.study.real_models.study_units import Unit, UnitKind, chosen_rate, development_average, trials_of
from qtarget.study.real_models.unit_files import path_of_unit, read_unit

ROWS_KEPT_OF = (GYM_SOURCE, OWN_SUMS)
"""Sources whose rows are kept with the results, so that nothing has to be installed to have them again."""
KEPT_FILES = (RUN, f"*/{TASK}", f"*/{SAMPLES}")
"""Files of an evaluation that are kept, of which `qtarget compare` reads all it needs."""
_PACKAGES = ("qtarget", "torch", "transformers", "trl", "peft")


@dataclass(frozen=True)
class RealStudy:
    """A study: what is asked, and where things are.

    Attributes:
        results: folder of one file a unit.  work: folder of models, caches and evaluations, which may be deleted.
        weights: folders or GGUF files by the hub's name of a model.  rows: folders by the name of a data set.
    """

    protocol: RealProtocol
    results: Path
    work: Path
    weights: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, Path] = field(default_factory=dict)

    def model(self, name: str) -> str:
        return self.weights.get(name, name)

    def home(self, setting: RealSetting) -> Path:
        return self.work / setting.name


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
        _bring_rows(setting, study)
    return {**kinds[unit.kind](unit, setting, study), "made_with": _made_with()}


def _made_with() -> dict[str, str]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} threads"
    return {**{name: version(name) for name in _PACKAGES}, "machine": machine(), "device": device}


def _rows(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    parts = made_rows(setting, study.rows.get(setting.rows.source))
    kept = {name: [vars(row) for row in rows] for name, rows in parts.items()}
    sizes = {name: len(rows) for name, rows in parts.items()}
    is_ours = setting.rows.source in ROWS_KEPT_OF
    return {"sha256": parts_digest(parts), "rows": sizes, **({"kept": kept} if is_ours else {})}


def _bring_rows(setting: RealSetting, study: RealStudy) -> None:
    """Write the rows' files, from the kept ones or made anew.

    Raises:
        ValueError: they are others than the ones that earlier units had.
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
            f"{setting.name}: the rows of {setting.rows.source} are others than those of the units that are done "
            f"({path_of_unit(unit, study.results)}); give the same ones by --rows {setting.rows.source}=FOLDER."
        )
    write_parts(parts, study.home(setting), setting.prompt)


def _teacher(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    model, training = _bring_teacher(setting, study)
    chosen = {name: study.protocol.decodings[name] for name in setting.teacher_decodings}
    return {"training": training, "evaluations": _asked(unit, setting, study, model, "test", chosen)}


def _bring_teacher(setting: RealSetting, study: RealStudy) -> tuple[str, dict[str, Any]]:
    """The teacher's folder or name, and what training it gave; it is trained first where none is named."""
    if setting.teacher:
        return study.model(setting.teacher), {}
    keys = {**setting.teacher_training, "method": "sft", "seed": setting.seeds[0]}
    return _trained(TEACHER_ARM, keys, "teacher", setting, study)


def _cache(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    return _bring_cache(setting, study)


def _bring_cache(setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    """What the teacher's cache holds and cost; it is written first where it is not there."""
    home = study.home(setting)
    folder, facts = home / "cache", home / "cache.json"
    if folder.is_dir() and facts.is_file():
        return read_json_object(facts, f"delete it and {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    teacher, _ = _bring_teacher(setting, study)
    keys = {"method": "target-sft", "eta": 0.5, "teacher": teacher, "teacher_cache": str(folder)}
    config = _write_config("cache", keys, "train", setting, study)
    cost = run_qtarget(["teacher", "cache", str(config)], home / "log" / "cache.log")
    report = json.loads(printed_by(["teacher", "verify", str(folder), "--json"]))
    wanted = ("documents", "tokens", "bytes", "bytes_per_token", "mean_captured", "percentiles", "label_outside")
    found = {"cost": asdict(cost), **{name: report[name] for name in wanted}}
    write_json(facts, found)
    return found


def _tokens(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    teacher, _ = _bring_teacher(setting, study)
    rows = study.home(setting) / "train.jsonl"
    with quiet():
        return look_at_tokens(study.model(setting.student), teacher, rows, setting.prompt, study.protocol)


def _trial(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    assert unit.rate is not None
    model, training = _arm_model(unit, unit.rate, setting, study)
    tuned_at = study.protocol.tuned_at
    trial = study.protocol.decodings[tuned_at].model_copy(update={"k": study.protocol.tuning_k})
    asked = _asked(unit, setting, study, model, "development", {tuned_at: trial})
    return {"rate": unit.rate, "training": training, "evaluations": asked}


def _test(unit: Unit, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    decodings = study.protocol.decodings
    if unit.arm == BASELINE_ARM:
        model = study.model(setting.student)
        asked = _asked(unit, setting, study, model, "test", decodings)
        return {"training": {}, "evaluations": asked, **_effects(unit, setting, study, model)}
    rate = rate_of_arm(setting, unit.arm, study)
    model, training = _arm_model(unit, rate, setting, study)
    asked = _asked(unit, setting, study, model, "test", decodings)
    found = {"rate": rate, "training": training, "evaluations": asked}
    return {**found, **_effects(unit, setting, study, model)}


def rate_of_arm(setting: RealSetting, arm: str, study: RealStudy) -> float:
    """The learning rate that an arm's trials chose, all of which are done."""
    averages = {}
    for trial in trials_of(setting, study.protocol.arm(arm)):
        result = read_unit(trial, study.results)
        assert result is not None  # comes first
        assert trial.rate is not None
        averages[trial.rate] = development_average(result)
    return chosen_rate(setting, averages)


def _arm_model(unit: Unit, rate: float, setting: RealSetting, study: RealStudy) -> tuple[str, dict[str, Any]]:
    """The folder of an arm's model, and what its training gave."""
    arm = study.protocol.arm(unit.arm)
    keys: dict[str, Any] = {"method": arm.method, **arm.values, "learning_rate": rate, "seed": unit.seed}
    if arm.needs_teacher:
        _bring_cache(setting, study)
        keys |= {"teacher": _bring_teacher(setting, study)[0], "teacher_cache": str(study.home(setting) / "cache")}
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
    cost = run_qtarget(["train", str(config)], home / "log" / f"{name}.log")
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
        **keys,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, yaml.safe_dump(values, sort_keys=False))
    return path


def _asked(
    unit: Unit, setting: RealSetting, study: RealStudy, model: str, part: str, decodings: Mapping[str, Decoding]
) -> dict[str, Any]:
    """The evaluations of a model by decoding."""
    questions = f"{setting.name}={study.home(setting) / f'{part}.jsonl'}"
    shared = ["--questions", questions, "--grade", setting.grade, "--prompt", setting.prompt, "--seed", str(unit.seed)]
    shared += ["--max-new-tokens", str(setting.max_new_tokens)]
    return {
        name: _answers([model, *shared, *_drawn_by(decoding)], f"{unit.name}-{name}", setting, study)
        for name, decoding in decodings.items()
    }


def _drawn_by(decoding: Decoding) -> list[str]:
    words = ["--k", str(decoding.k), "--temperature", f"{decoding.temperature:g}"]
    return [*words, "--top-p", f"{decoding.top_p:g}"]


def _answers(words: list[str], name: str, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    """An evaluation's folder as text, file by file, with the share of right answers by question."""
    home = study.home(setting)
    out = home / "evaluations" / name
    cost = run_qtarget(["eval", *words, "--out", str(out)], home / "log" / f"{name}.log")
    found = sorted(path for each in KEPT_FILES for path in out.glob(each))
    arm = read_arm(out.name, [out])
    (task,) = arm.seeds[0]
    kept = {str(path.relative_to(out)): path.read_text("utf-8") for path in found}
    return {"cost": asdict(cost), "shares": arm.shares(task)[0], "files": kept}


def _effects(unit: Unit, setting: RealSetting, study: RealStudy, model: str) -> dict[str, Any]:
    """Forgetting and calibration of a model, with the first seed: of an evaluation of a few questions, asked once."""
    home, prompts = study.home(setting), study.protocol.effect_prompts
    if unit.seed != setting.seeds[0] or not prompts:
        return {}
    out = home / "evaluations" / f"{unit.name}-effects"
    questions = ["--questions", f"{setting.name}={home / 'test.jsonl'}", "--limit", str(prompts)]
    words = ["eval", model, *questions, "--grade", setting.grade, "--prompt", setting.prompt, "--k", "1"]
    words += ["--temperature", "0", "--max-new-tokens", str(setting.max_new_tokens), "--out", str(out)]
    words += ["--base", study.model(setting.student), "--reference-rows", str(home / "reference.jsonl")]
    run_qtarget(words, home / "log" / f"{unit.name}-effects.log")
    effects = read_json_object(out / EFFECTS_FILE, f"delete {out}")
    return {"effects": {name: effects[name] for name in ("forgetting", "calibration")}}
