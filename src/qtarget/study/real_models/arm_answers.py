"""A model's answers, drawn by `qtarget eval`, and what its training changed besides: forgetting and calibration."""

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
"""The files of an evaluation that are kept: all that `qtarget compare` reads."""


def answers_at(
    unit: Unit, setting: RealSetting, study: RealStudy, model: str, part: str, decodings: Mapping[str, RealDecoding]
) -> dict[str, Any]:
    """Ask a model the questions of a part of the setting's rows, at each decoding.

    Args:
        part: "development" or "test".

    Returns:
        By the decoding's name: what the evaluation cost, the share of right answers by question, and its files.
    """
    questions = f"{setting.name}={study.home(setting) / f'{part}.jsonl'}"
    shared = ["--questions", questions, "--grade", setting.grade, "--prompt", setting.prompt, "--seed", str(unit.seed)]
    shared += ["--max-new-tokens", str(setting.max_new_tokens), *_batch_and_precision(study)]
    return {
        name: _answers([model, *shared, *_decoding_words(decoding)], f"{unit.name}-{name}", setting, study)
        for name, decoding in decodings.items()
    }


def _batch_and_precision(study: RealStudy) -> list[str]:
    at_once = [] if study.batch_size is None else ["--batch-size", str(study.batch_size)]
    return [*at_once, *(["--dtype", "bfloat16"] if study.bf16 else [])]


def _decoding_words(decoding: RealDecoding) -> list[str]:
    return ["--k", f"{decoding.k}", "--temperature", f"{decoding.temperature:g}", "--top-p", f"{decoding.top_p:g}"]


def _answers(words: list[str], name: str, setting: RealSetting, study: RealStudy) -> dict[str, Any]:
    """Run one evaluation, unless its folder is there already, and read it. See `answers_at`."""
    home = study.home(setting)
    out = home / "evaluations" / name
    cost = run_qtarget(["eval", *words, "--out", str(out)], home / "log" / f"{name}.log", study.around)
    arm = read_arm(out.name, [out])
    (task,) = arm.seeds[0]
    paths = sorted(path for pattern in KEPT_FILES for path in out.glob(pattern))
    files = {str(path.relative_to(out)): path.read_text("utf-8") for path in paths}
    return {"cost": asdict(cost), "shares": arm.shares(task)[0], "files": files}


def effects_of_model(unit: Unit, setting: RealSetting, study: RealStudy, model: str) -> dict[str, Any]:
    """Forgetting and calibration of a model, from an evaluation of a few questions, each asked once.

    They are measured for the first seed alone; {} for any other.
    """
    home, prompts = study.home(setting), study.protocol.effect_prompts
    if unit.seed != setting.seeds[0] or not prompts:
        return {}
    out = home / "evaluations" / f"{unit.name}-effects"
    questions = ["--questions", f"{setting.name}={home / 'test.jsonl'}", "--limit", str(prompts)]
    words = ["eval", model, *questions, "--grade", setting.grade, "--prompt", setting.prompt, "--k", "1"]
    words += ["--temperature", "0", "--max-new-tokens", str(setting.max_new_tokens), "--out", str(out)]
    words += ["--base", study.model(setting.student), "--reference-rows", str(home / "reference.jsonl")]
    words += _batch_and_precision(study)
    run_qtarget(words, home / "log" / f"{unit.name}-effects.log", study.around)
    effects = read_json_object(out / EFFECTS_FILE, f"delete {out}")
    return {"effects": {name: effects[name] for name in ("forgetting", "calibration")}}
