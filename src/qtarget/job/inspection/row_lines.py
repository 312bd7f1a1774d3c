"""Where prepared rows stand in the files that they were read from, for those who go to mend them."""

from collections.abc import Collection, Iterator
from itertools import chain
from pathlib import Path

from qtarget.console import spelled_out
from qtarget.data import RowCounts
from qtarget.data.user_files.formats import reader_of, rows_in
from qtarget.job.config.checked_job import Job
from qtarget.job.inspection.trained_rows import TrainedRows


def row_lines(job: Job, counts: RowCounts | None, prepared: TrainedRows, numbers: Collection[int]) -> dict[int, str]:
    """The places of some prepared rows in their files, by number: "train.jsonl, line 13".

    Args:
        counts: what became of the rows.
        numbers: of the rows, from 1.

    Returns:
        Nothing where it is not known which row of a file a prepared one is: rows were left out, drawn, packed, mixed or
        streamed, or come from no files.
    """
    files = [Path(name).expanduser() for name in job.train.names]
    if not numbers or not _keeps_order(job, counts, prepared) or not all(map(_is_read, files)):
        return {}
    named, last = set(numbers), max(numbers)
    places = enumerate(chain.from_iterable(map(_places, files)), 1)
    found = {}
    for number, place in places:
        if number in named:
            found[number] = place
        if number == last:
            break
    return found


def _keeps_order(job: Job, counts: RowCounts | None, prepared: TrainedRows) -> bool:
    """Whether prepared rows are those of the files, one by one."""
    is_first = job.layout is None or (job.layout.seed is None and not job.layout.drop_longer)
    is_one_set = not job.train.sets and not prepared.is_packed and counts is not None and not counts.sets
    return is_first and is_one_set and counts is not None and counts.given == counts.rows == len(prepared)


def _is_read(path: Path) -> bool:
    return path.is_file() and reader_of(path) is not None


def _places(path: Path) -> Iterator[str]:
    return (f"{spelled_out(path.name)}, {placed.place}" for placed in rows_in(path))
