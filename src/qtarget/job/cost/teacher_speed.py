"""How fast a teacher says what a cache keeps of it, timed on a few rows."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from qtarget.job.build import JobTrainer
from qtarget.job.config.checked_job import Job
from qtarget.job.cost.cache_width import tokens_kept
from qtarget.target.kept_tokens import temperature_for
from qtarget.teacher import Document, Keep, KeptLogprobs, KeptSource, LiveModel, kept_logprobs
from qtarget.teacher.cache.writer import Answer
from qtarget.teacher.served_store import ServedStore
from qtarget.train.lookup import documents_read

ROWS_TIMED = 8
"""Documents that a model is asked about. They are taken in the order of their digests, which is a random one."""
ROWS_OF_SERVER = 64
"""The same for a model on a server, which answers several requests at once."""


class TimedAnswer(NamedTuple):
    """What a teacher says about some documents, and the tokens of text that went through it a second."""

    kept: KeptLogprobs
    speed: float


def timed_answer(answer: Answer, documents: Sequence[Document]) -> TimedAnswer:
    """Ask about documents; what is said first, before a model's memory is warm, does not count."""
    answer(documents[:1])
    start = synchronised_clock()
    kept = answer(documents)
    return TimedAnswer(kept, tokens_to_read(documents) / (synchronised_clock() - start))


def tokens_to_read(documents: Sequence[Document]) -> int:
    """Tokens of documents, learned or not."""
    return sum(len(document.ids) for document in documents)


def teacher_speeds(trainer: JobTrainer, job: Job) -> dict[str, float]:
    """Tokens of text a second of each teacher that is loaded here or served, by name ("teacher 0", "teacher 1", …)."""
    asked = {name: _answer_of(source, name, job) for name, source in trainer.sources.items() if name != "reference"}
    return {
        name: timed_answer(answer, _some_documents(name, trainer, isinstance(trainer.sources[name], KeptSource))).speed
        for name, answer in asked.items()
        if answer is not None
    }


def _answer_of(source: Any, name: str, job: Job) -> Answer | None:
    """How a teacher is asked as for a cache; None where it is one, or is the student itself."""
    if isinstance(source, KeptSource):
        return source.store.answer if isinstance(source.store, ServedStore) else None
    if not isinstance(source, LiveModel):
        return None
    keep = Keep(tokens_kept(job, "teacher"), "top", temperature_for(job.method, name))
    return lambda documents: kept_logprobs(source, documents, keep, job.cache.batch_tokens)


def _some_documents(name: str, trainer: JobTrainer, is_served: bool) -> list[Document]:
    rows: Any = trainer.train_dataset
    documents = sorted(documents_read(name, rows.with_format("numpy")), key=lambda document: document.digest)
    return documents[: ROWS_OF_SERVER if is_served else ROWS_TIMED]


def synchronised_clock() -> float:
    """Seconds of a clock, once a GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
