"""How much of their teacher a run's caches and servers hold at its rows, measured before the first step."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from rich.text import Text

from qtarget.console import SafeConsole
from qtarget.job.build import JobTrainer
from qtarget.teacher import KeptSource
from qtarget.teacher.cache import Cache
from qtarget.teacher.cache.captured import CapturedMass
from qtarget.teacher.served.client import ServedTeacher
from qtarget.train.lookup import documents_read

MEASURED_ROWS = 32
"""Rows that are looked at: some thousands of tokens, in less time than a step takes."""


def announce_mass(trainer: JobTrainer) -> None:
    """Print a warning, on the first rank, for each cache or server that holds too little of its teacher."""
    if trainer.is_world_process_zero():
        for warning in mass_warnings(trainer):
            SafeConsole(soft_wrap=True).print(Text(warning, style="yellow"))


def mass_warnings(trainer: JobTrainer) -> Iterator[str]:
    """A sentence for each cache or server of which a method reads the whole distribution and too little is there."""
    kept = {name: source for name, source in trainer.sources.items() if isinstance(source, KeptSource)}
    for reader, source in kept.items():
        store: Any = source.store
        if source.label_only or store.keep.how != "top" or not isinstance(store, Cache | ServedTeacher):
            continue
        rows: Any = trainer.train_dataset
        documents = list(islice(documents_read(reader, rows), MEASURED_ROWS))
        vocabulary = store.manifest.parts["vocabulary"] if isinstance(store, Cache) else store.health.vocab
        captured = CapturedMass.of(store.answer(documents), vocabulary)
        name = str(store.folder) if isinstance(store, Cache) else f"What {store.url} is asked for"
        if captured is not None and (warning := captured.warning(name)):
            yield warning
