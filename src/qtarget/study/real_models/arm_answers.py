"""What a model answers, by `qtarget eval`, and what training changed besides."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from qtarget.disk.files import read_json_object
from qtarget.evaluate.compare.arms import read_arm
from qtarget.evaluate.store import EFFECTS_FILE, RUN, SAMPLES, TASK
from qtarget.study.own_commands import run_qtarget
from qtarget.study.real_models.real_protocol import RealDecoding, RealSetting
from qtarget.study.real_models.real_study import RealStudy
from qtarget.study.real_models.study_units import Unit

KEPT_FILES = (RUN, f"*/{TASK}", f"*/{SAMPLES}")
"""Files of an evaluation that are kept, of which `qtarget compare` reads all it needs."""


def answers_at(
    unit: Unit, setting: RealSetting, study: RealStudy, model: str, part: str, decodings: Mapping[str, RealDecoding]
) -> dict[str, Any]:
    """The evaluations of a model by decoding."""
    questions = f"{setting.name}={study.home(setting) / f'{part}.jsonl'}"
    shared = ["--questions", questions, "--grade", setting.grade, "--prompt", setting.prompt, "--seed", str(unit.seed)]
    shared += ["--max-new-tokens", str(setting.max_new_tokens), *_eval_flags(study)]
    return {
        name: _answers([model, *shared, *_drawn_by(decoding)], f"{unit.name}-{name}", setting, study)
        for name, decoding in decodings.items()
    }


def _eval_flags(study: RealStudy) -> list[str]:
    at_once = [] if study.batch_size is None else ["--batch-size", str(study.batch_size)]
    return [*at_once, *(["--dtype", "bfloat16"] if study.bf16 else [])]


def _drawn_by(decoding: RealDecoding) -> list[str]:
    words = ["--k", str(decoding.k), "--temperature", f"{decoding.temperature:g}"]
    return [*words, "--top-p", f"{decoding.top_p:g}"]


def _answers(words: list[str], name: str, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    """An evaluation's folder as text, file by file, with the share of right answers by question."""
    home = study.home(setting)
    out = home / "evaluations" / name
    cost = run_qtarget(["eval", *words, "--out", str(out)], home / "log" / f"{name}.log", study.around)
    found = sorted(path for each in KEPT_FILES for path in out.glob(each))
    arm = read_arm(out.name, [out])
    (task,) = arm.seeds[0]
    kept = {str(path.relative_to(out)): path.read_text("utf-8") for path in found}
    return {"cost": asdict(cost), "shares": arm.shares(task)[0], "files": kept}


def effects_of_model(unit: Unit, setting: RealSetting, study: RealStudy, model: str) -> dict[str, Any]:
    """Forgetting and calibration of a model, with the first seed: of an evaluation of a few questions, asked once."""
    home, prompts = study.home(setting), study.protocol.effect_prompts
    if unit.seed != setting.seeds[0] or not prompts:
        return {}
    out = home / "evaluations" / f"{unit.name}-effects"
    questions = ["--questions", f"{setting.name}={home / 'test.jsonl'}", "--limit", str(prompts)]
    words = ["eval", model, *questions, "--grade", setting.grade, "--prompt", setting.prompt, "--k", "1"]
    words += ["--temperature", "0", "--max-new-tokens", str(setting.max_new_tokens), "--out", str(out)]
    words += ["--base", study.model(setting.student), "--reference-rows", str(home / "reference.jsonl")]
    words += _eval_flags(study)
    run_qtarget(words, home / "log" / f"{unit.name}-effects.log", study.around)
    effects = read_json_object(out / EFFECTS_FILE, f"delete {out}")
    return {"effects": {name: effects[name] for name in ("forgetting", "calibration")}}
