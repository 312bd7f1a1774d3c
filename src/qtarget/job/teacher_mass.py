"""What commands say of caches and servers that hold little of their teacher."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rich.text import Text

from qtarget.console import SafeConsole
from qtarget.data import Asker
from qtarget.job.build import JobTrainer
from qtarget.job.config.checked_job import Job
from qtarget.teacher.cache import open_cache
from qtarget.teacher.cache.format import is_whole_cache
from qtarget.train import TargetSFTTrainer
from qtarget.train.build_sources import as_teachers
from qtarget.train.kept_mass import MEASURED_ROWS, thin_sources, thin_store
from qtarget.train.lookup import documents_read


def announce_mass(trainer: JobTrainer) -> None:
    """Print a warning, on the first rank, for each cache or server that holds too little of its teacher."""
    if trainer.is_world_process_zero():
        for warning in mass_warnings(trainer):
            SafeConsole(soft_wrap=True).print(Text(warning, style="yellow"))


def mass_warnings(trainer: TargetSFTTrainer) -> Iterator[str]:
    """A sentence for each cache or server of which a method reads the whole distribution and too little is there."""
    yield from thin_sources(trainer.sources, trainer.train_dataset, Asker.COMMAND_LINE)


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
        yield from thin_store(cache, (each for each in documents if each.digest not in missing))
