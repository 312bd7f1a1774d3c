"""Drawing the samples that a task's file lacks: requests, completions, and their lines in the sample store."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from qtarget.evaluate.generators.sampling import seed_of
from qtarget.evaluate.nouns import Completion, Generator, Record, Request, TaskRun
from qtarget.evaluate.prompts import PromptIds
from qtarget.evaluate.run.prepare import PreparedEvaluation
from qtarget.evaluate.run.progress import ProgressWatch
from qtarget.evaluate.store import appending, identity, read_records, task_sha


class SampleOrigin:
    """What all samples of a task have in common: the task, the model, how it generates, and the questions' prompts."""

    def __init__(self, run: TaskRun, prompts: Sequence[PromptIds], model_fp: str, gen_fp: str) -> None:
        self.task, self.task_sha, self.model_fp, self.gen_fp = run.task.name, task_sha(run), model_fp, gen_fp
        self.prompts = {question.qid: ids for question, ids in zip(run.questions, prompts, strict=True)}
        self.sha256 = {qid: prompt_sha256(ids) for qid, ids in self.prompts.items()}

    @staticmethod
    def of(prepared: PreparedEvaluation, run: TaskRun) -> "SampleOrigin":
        model_fp, gen_fp = (identity(prepared.facts[part]) for part in ("model", "generation"))
        return SampleOrigin(run, prepared.prompts[run.task.name], model_fp, gen_fp)

    def record(self, completion: Completion) -> Record:
        """The line of the sample store for a completion, not graded yet."""
        request = completion.request
        return Record(
            task=self.task,
            task_sha=self.task_sha,
            qid=request.qid,
            sample_i=request.sample,
            seed=request.seed,
            prompt_ids_sha256=self.sha256[request.qid],
            completion=completion.text,
            finish_reason=completion.finish,
            n_tokens=completion.tokens,
            extracted=None,
            grade=None,
            grade_reason="ungraded",
            model_fp=self.model_fp,
            gen_fp=self.gen_fp,
            grader_fp="",
        )

    def check(self, record: Record, path: Path) -> None:
        """Raise ValueError for a sample that belongs to another evaluation than its folder."""
        same = (record.task_sha, record.model_fp, record.gen_fp) == (self.task_sha, self.model_fp, self.gen_fp)
        if not same or record.qid not in self.sha256:
            raise ValueError(f"{path} holds a sample of another evaluation ({record.qid}); write another --out.")
        if record.prompt_ids_sha256 != self.sha256[record.qid]:
            raise ValueError(
                f"{path}: the prompt of question {record.qid!r} has other token ids now than when its samples were "
                "drawn. The tokenizer, its chat template or the prompt was changed; write another --out."
            )


def prompt_sha256(ids: PromptIds) -> str:
    """sha256 of a prompt's ids, as JSON."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def requests_of(run: TaskRun, prompts: Sequence[PromptIds]) -> list[Request]:
    """Every sample of a task, each with a seed of its own."""
    return [
        Request(question.qid, i, seed_of(run.ask.seed, f"{run.task.name}/{question.qid}", i), ids)
        for question, ids in zip(run.questions, prompts, strict=True)
        for i in range(run.ask.k)
    ]


def draw_missing(path: Path, run: TaskRun, origin: SampleOrigin, generator: Generator, watch: ProgressWatch) -> None:
    """Draw the samples that a file lacks, and append each as soon as it is drawn."""
    records = read_records(path)
    for record in records:
        origin.check(record, path)
    drawn = {(record.qid, record.sample_i) for record in records}
    requests = requests_of(run, list(origin.prompts.values()))
    missing = [request for request in requests if (request.qid, request.sample) not in drawn]
    if not missing:
        return
    at_once = getattr(generator, "batch_size", 1)
    watch.begin(run.task.name, len(requests), len(drawn), at_once, run.ask.max_new_tokens)
    try:
        with appending(path) as samples:
            for completion in generator.generate(missing, run.ask, watch.add_tokens):
                samples.append(origin.record(completion))
                watch.advance(completion.tokens)
    finally:
        watch.end()
