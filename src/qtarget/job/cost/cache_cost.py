"""What a cache of a teacher takes, and after how many runs it costs less than the teacher itself beside each run."""

import math
from typing import Any, NamedTuple

from qtarget.job.config.checked_job import Job
from qtarget.job.cost.cache_width import rule_for, tokens_kept
from qtarget.job.cost.disk_use import evaluations_of
from qtarget.job.cost.run_time import steps_of
from qtarget.job.cost.teacher_speed import tokens_to_read
from qtarget.models.same_tokens import number_of_tokens
from qtarget.teacher import Document
from qtarget.teacher.cache.contents import (
    bytes_per_token,
    cut_into_shards,
    packed_bytes_at_most,
    stored_bytes,
    tokens_in,
)
from qtarget.train.lookup import documents_read


class CacheCost(NamedTuple):
    """What `qtarget teacher cache` writes of one model, and what the model reads with and without it.

    Attributes:
        name: "teacher 0", "teacher 1", … or "reference".
        documents: rows of training and evaluation, each once; of packed rows the documents in them.
        tokens: those that are learned, about which something is stored.
        read: tokens of text that go through the model while the cache is written, once.
        read_live: the same beside one run, if it is not cached; of an epoch that is cut short, the mean.
        shards, kept: files, and tokens kept of each distribution.
        bytes: of all that is stored; a file's header, about a kilobyte, comes on top. At the most, where tokens are
            kept by their mass: how many that takes is the teacher's to say.
        bytes_per_token: of what is stored at each learned token; likewise.
        at_most: whether these are bounds.
    """

    name: str
    documents: int
    tokens: int
    read: int
    read_live: float
    shards: int
    kept: int
    bytes: int
    bytes_per_token: float
    at_most: bool

    @property
    def break_even(self) -> float:
        """Runs after which cache and live teacher have read as much. A token costs the teacher the same in both; what
        reading a cache takes (a tenth of a millisecond for 256 tokens) is left out.
        """
        return self.read / self.read_live

    @property
    def pays_from(self) -> int:
        """The first number of runs that together cost less with a cache than with a live teacher."""
        return math.floor(self.break_even) + 1

    def as_json(self) -> dict[str, Any]:
        return {**self._asdict(), "break_even": self.break_even, "pays_from": self.pays_from}


class CountedRows(NamedTuple):
    """A run's prepared rows, and its tokenizer.

    Attributes:
        held_out: of evaluation; None where there are none.
    """

    train: Any
    held_out: Any
    tokenizer: Any


def cache_costs(job: Job, rows: CountedRows) -> tuple[CacheCost, ...]:
    """Of each teacher that the method reads, were it cached; none where it changes as the student is trained."""
    if job.args.ema is not None:
        return ()
    names = [f"teacher {index}" for index in range(job.method.num_teachers_read)]
    return tuple(cache_cost(job, name, rows) for name in names)


def cache_cost(job: Job, name: str, rows: CountedRows) -> CacheCost:
    """Of one model.

    Args:
        name: "teacher 0", "teacher 1", … or "reference".
    """
    train = _documents(name, rows.train)
    held_out = [] if rows.held_out is None else _documents(name, rows.held_out)
    shards = cut_into_shards([*train, *held_out], job.cache.shard_tokens)
    vocabulary = number_of_tokens(rows.tokenizer.get_vocab())
    by_mass = rule_for(job, name.split()[0])
    kept = min(tokens_kept(job, name.split()[0]), vocabulary - (by_mass is not None))
    most = None if by_mass is None else packed_bytes_at_most(kept, job.cache.dtype, vocabulary)
    return CacheCost(
        name,
        sum(len(shard) for shard in shards),
        sum(tokens_in(shard) for shard in shards),
        sum(tokens_to_read(shard) for shard in shards),
        _read_live(job, len(rows.train), tokens_to_read(train), tokens_to_read(held_out)),
        len(shards),
        kept,
        stored_bytes(shards, kept, job.cache.dtype, most),
        bytes_per_token(kept, job.cache.dtype) if most is None else most,
        most is not None,
    )


def _documents(name: str, rows: Any) -> list[Document]:
    return list(documents_read(name, rows.with_format("numpy")))


def _read_live(job: Job, rows: int, train: int, held_out: int) -> float:
    """Tokens that a run passes through a live model.

    Args:
        rows: of training.  train, held_out: tokens of all of them, and of all rows of evaluation.
    """
    steps, args = steps_of(job, rows), job.args
    seen = steps * args.gradient_accumulation_steps * min(args.per_device_train_batch_size, rows)
    return train * seen / rows + evaluations_of(job, steps) * held_out
