"""Answers of models that do not exist: graded samples of a known chance of being right."""

import json
from dataclasses import asdict, replace

import numpy as np

from qtarget.disk.files import write_digested_json
from qtarget.evaluate.nouns import Answers, Question, Record, SamplingProtocol, TaskFacts, TaskRun
from qtarget.evaluate.store import identity, line_of, task_sha, write_task

MODEL, GENERATION = {"name": "m"}, {"engine": "transformers", "version": "5.0", "dtype": "float32"}


def answers(levels, *, task="t", suite="s", k=4, seed=0, cut=0.0, clusters=1, prompt="plain", grader="g1"):
    """Question q is answered rightly with chance levels[q]; `cut` of the samples hit the length limit."""
    rng = np.random.default_rng(seed)
    questions = tuple(
        Question(f"q{i}", f"What is {i}?", str(i), cluster=f"c{i // clusters}" if clusters > 1 else "")
        for i in range(len(levels))
    )
    records = tuple(
        tuple(
            _record(task, q, i, bool(rng.random() < level), bool(rng.random() < cut), grader, int(rng.integers(99)))
            for i in range(k)
        )
        for q, level in zip(questions, levels, strict=True)
    )
    return Answers(
        TaskFacts(task, 1, suite, "exact"), SamplingProtocol(prompt, k=k), questions, records, MODEL, GENERATION
    )


def _record(task, question, sample, right, cut, grader, noise):
    text = f"so {question.gold if right else 'nothing'} ({noise}, {sample})"
    return Record(
        task=task,
        task_sha="0" * 16,
        qid=question.qid,
        sample_i=sample,
        seed=sample,
        prompt_ids_sha256=f"prompt of {question.qid}",
        completion=text,
        finish_reason="length" if cut else "stop",
        n_tokens=20 + noise,
        extracted=question.gold if right else f"{noise}",
        grade=int(right),
        grade_reason="ok",
        model_fp="m",
        gen_fp="e",
        grader_fp=grader,
    )


def changed(one, **changes):
    """The same answers with every record changed."""
    return replace(one, records=tuple(tuple(replace(r, **changes) for r in own) for own in one.records))


def write_folder(folder, *several, effects=None):
    """A folder as `qtarget eval` leaves it."""
    folder.mkdir(parents=True)
    write_digested_json(folder / "run.json", {"model": MODEL, "generation": GENERATION})
    for one in several:
        run = TaskRun(one.task, one.ask, one.questions)
        write_task(folder / one.task.name, run)
        drawn = {"task_sha": task_sha(run), "model_fp": identity(MODEL), "gen_fp": identity(GENERATION)}
        lines = [line_of(replace(record, **drawn)) for own in one.records for record in own]
        (folder / one.task.name / "samples.jsonl").write_bytes(b"".join(lines))
    if effects is not None:
        (folder / "effects.json").write_text(json.dumps(effects))
    return folder


def plain(one):
    """As JSON reads it."""
    return json.loads(json.dumps(asdict(one)))
