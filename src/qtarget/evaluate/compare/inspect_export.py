"""Answers as logs of Inspect (inspect.aisi.org.uk), for its viewer and its analysis: `inspect view --log-dir …`.

A log is one JSON file a task and training seed, in version 2 of Inspect's log format, written without Inspect. Beside
them stand the tasks as data sets that `inspect_ai.dataset.json_dataset` reads.
"""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qtarget.disk.files import json_text, replace_text, write_json
from qtarget.evaluate.compare.arms import Arm
from qtarget.evaluate.confidence import average_at_k, shares_of
from qtarget.evaluate.confidence.intervals import squared_error
from qtarget.evaluate.confidence.units import by_unit
from qtarget.evaluate.nouns import Answers, Question, Record
from qtarget.evaluate.store import short_sha

VALUES = {1: "C", 0: "I", None: "N"}
"""Right, wrong, and no known grade, in Inspect's letters."""
STOPS = {"stop": "stop", "length": "max_tokens"}


def export_inspect(arms: Sequence[Arm], folder: Path, created: datetime | None = None) -> list[Path]:
    """Write ``folder/TIME_ARM-TASK_ID.json`` for every task, arm and training seed, and ``folder/tasks/TASK.jsonl``.

    Args:
        created: the time that stands in the logs and their names; now, if None.

    Returns:
        the paths of the logs.
    """
    created = created or datetime.now(UTC)
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    logs = []
    for arm in arms:
        for seed, tasks in enumerate(arm.seeds):
            for answers in tasks.values():
                log = log_of(answers, arm.name, seed, created)
                stem = re.sub(r"[^A-Za-z0-9.]+", "-", f"{arm.name}-{answers.task.name}")
                logs.append(folder / f"{created:%Y-%m-%dT%H-%M-%S}+00-00_{stem}_{log['eval']['task_id']}.json")
                write_json(logs[-1], log)
                _write_rows(folder / "tasks" / f"{answers.task.name}.jsonl", answers)
    return logs


def _write_rows(path: Path, answers: Answers) -> None:
    rows = [{"id": q.qid, **_sample_facts(q)} for q in answers.questions]
    replace_text(path, "".join(json_text(row) + "\n" for row in rows))


def log_of(answers: Answers, arm: str, seed: int, created: datetime) -> dict[str, Any]:
    """The log of one task and training seed, as a JSON object in version 2 of Inspect's format."""
    model, name = str(answers.model.get("name") or arm), answers.task.name
    identity = short_sha([arm, seed, name])
    samples = [
        _sample(question, record, epoch, model, answers.task.grader)
        for question, records in zip(answers.questions, answers.records, strict=True)
        for epoch, record in enumerate(records, 1)
    ]
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": identity,
            "run_id": short_sha([arm, seed]),
            "created": created.isoformat(),
            "task": name,
            "task_id": identity,
            "task_version": answers.task.version,
            "task_attribs": {"suite": answers.task.suite},
            "dataset": {"name": name, "samples": len(answers.questions), "sample_ids": answers.qids},
            "model": model,
            "model_generate_config": _generation(answers),
            "config": {"epochs": answers.ask.k, "epochs_reducer": ["mean"]},
            "scorers": [{"name": answers.task.grader, "metrics": [{"name": "accuracy"}, {"name": "stderr"}]}],
            "metadata": {"arm": arm, "seed": seed, "prompt": answers.ask.prompt, "generation": answers.generation},
            "tags": [arm],
        },
        "results": _results(answers, len(samples)),
        "samples": samples,
    }


def _generation(answers: Answers) -> dict[str, Any]:
    ask = answers.ask
    return {"temperature": ask.temperature, "top_p": ask.top_p, "max_tokens": ask.max_new_tokens, "seed": ask.seed}


def _results(answers: Answers, samples: int) -> dict[str, Any]:
    """Average@k and its clustered standard error, without pseudo-questions, as Inspect computes them."""
    grades, k = answers.grades, answers.ask.k
    average = average_at_k(grades, k, names=answers.qids)
    values = by_unit(shares_of(grades, k), answers.units)
    error = math.sqrt(squared_error(values)) if len(values) > 1 else 0.0
    metrics = {"accuracy": average.mean, "stderr": error}
    score = {
        "name": answers.task.grader,
        "scorer": answers.task.grader,
        "reducer": "mean",
        "scored_samples": len(grades),
        "unscored_samples": 0,
        "metrics": {name: {"name": name, "value": value} for name, value in metrics.items()},
    }
    return {"total_samples": samples, "completed_samples": samples, "scores": [score]}


def _sample_facts(question: Question) -> dict[str, Any]:
    facts = {"input": question.text, "target": question.gold, "metadata": {"cluster": question.unit}}
    return {**facts, "choices": list(question.options)} if question.options else facts


def _sample(question: Question, record: Record, epoch: int, model: str, scorer: str) -> dict[str, Any]:
    answer = {"role": "assistant", "content": record.completion, "source": "generate", "model": model}
    usage = {"output_tokens": record.n_tokens, "total_tokens": record.n_tokens}
    stop = {"message": answer, "stop_reason": STOPS[record.finish_reason]}
    facts = _sample_facts(question)
    return {
        **facts,
        "id": question.qid,
        "epoch": epoch,
        "messages": [{"role": "user", "content": question.text, "source": "input"}, answer],
        "output": {"model": model, "choices": [stop], "completion": record.completion, "usage": usage},
        "scores": {
            scorer: {
                "value": VALUES[record.grade],
                "answer": record.extracted,
                "explanation": record.grade_reason,
                "metadata": {"grader_fp": record.grader_fp},
            }
        },
        "metadata": {**facts["metadata"], "seed": record.seed, "prompt_ids_sha256": record.prompt_ids_sha256},
    }
