"""How much of their teacher a run's caches and servers hold at its rows, measured before the first step."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rich.text import Text

from qtarget.console import SafeConsole
from qtarget.job.build import JobTrainer
from qtarget.job.config.checked_job import Job
from qtarget.teacher import Document, KeptSource
from qtarget.teacher.cache import Cache, open_cache
from qtarget.teacher.cache.captured import CapturedMass
from qtarget.teacher.cache.format import is_whole_cache
from qtarget.teacher.served.client import ServedTeacher
from qtarget.train import TargetSFTTrainer
from qtarget.train.build_sources import as_teachers
from qtarget.train.lookup import documents_read

MEASURED_ROWS = 32
"""Rows that are looked at: some thousands of tokens, in less time than a step takes."""


def announce_mass(trainer: JobTrainer) -> None:
    """Print a warning, on the first rank, for each cache or server that holds too little of its teacher."""
    if trainer.is_world_process_zero():
        for warning in mass_warnings(trainer):
            SafeConsole(soft_wrap=True).print(Text(warning, style="yellow"))


def mass_warnings(trainer: TargetSFTTrainer) -> Iterator[str]:
    """A sentence for each cache or server of which a method reads the whole distribution and too little is there."""
    kept = {name: source for name, source in trainer.sources.items() if isinstance(source, KeptSource)}
    for reader, source in kept.items():
        rows: Any = trainer.train_dataset
        if not source.label_only:
            yield from _warnings_of(source.store, documents_read(reader, rows))


def folder_warnings(job: Job, rows: Any) -> Iterator[str]:
    """The same sentences of the finished caches that a configuration names, where no trainer has opened them.

    Args:
        rows: prepared ones of training. Those that a cache does not hold are left out.

    Raises:
        ValueError: a cache is damaged.
    """
    folders = [(f"teacher {i}", str(each)) for i, each in enumerate(as_teachers(job.args.teacher_cache))]
    folders += [("reference", str(each)) for each in as_teachers(job.args.reference_cache)]
    for reader, folder in folders:
        if reader.split()[0] in job.method.label_only or not is_whole_cache(Path(folder)):
            continue
        cache = open_cache(folder)
        documents = list(islice(documents_read(reader, rows.with_format("numpy")), MEASURED_ROWS))
        missing = {document.digest for document in cache.missing(documents)}
        yield from _warnings_of(cache, (each for each in documents if each.digest not in missing))


def _warnings_of(store: Any, documents: Iterable[Document]) -> Iterator[str]:
    """A sentence where a cache or a server keeps too little of its teacher at the first documents."""
    if store.keep.how != "top" or not isinstance(store, Cache | ServedTeacher):
        return
    vocabulary = store.manifest.parts["vocabulary"] if isinstance(store, Cache) else store.health.vocab
    captured = CapturedMass.of(store.answer(list(islice(documents, MEASURED_ROWS))), vocabulary)
    name = str(store.folder) if isinstance(store, Cache) else f"What {store.url} is asked for"
    if captured is not None and (warning := captured.warning(name)):
        yield warning
