"""`Job`: a checked run, and the parts it is made of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from trl import ModelConfig  # pyright: ignore[reportPrivateImportUsage]

import qtarget as qt
from qtarget.job.config.sample_options import RoundOptions, SampleOptions
from qtarget.teacher.cache import ByMass
from qtarget.train import MixtureStopping, TargetSFTConfig


class DataSource(NamedTuple):
    """Where rows come from.

    Attributes:
        names: paths of files, or one directory or hub name; of a list of sets, all of theirs.
        config: name of a configuration of a data set on the hub.
        split: of a directory or a data set on the hub; files are taken whole.
        share: of a set in a mixture, its part of the rows, relative to the shares of the others.
        columns: of a set in a list of them, what its columns are.
        held_out: the rows must be a split of its own, as the others are trained on.
        sets: of a list of sets, each of them.
    """

    names: tuple[str, ...]
    config: str | None
    split: str
    share: float | None = None
    columns: dict[str, Any] | None = None
    held_out: bool = False
    sets: "tuple[DataSource, ...]" = ()


@dataclass(frozen=True)
class Layout:
    """How a prompt is rendered, and which rows are taken.

    Attributes:
        prompt: a name in `evaluate.prompts`: a question becomes the token ids that evaluation asks with. None leaves
            rendering to TRL.
        take: how many training rows to take, the first ones or, with `seed`, drawn at random; None for all.
        seed: of the draw.
        drop_longer: leave out rows of more than `max_length` tokens, before any is taken, instead of cutting them.
    """

    prompt: str | None
    take: int | None
    seed: int | None
    drop_longer: bool


@dataclass(frozen=True)
class CacheOptions:
    """How `qtarget teacher cache` writes: the keys of a configuration that begin with `cache_`.

    Attributes:
        sampled: keep tokens drawn from the teacher's distribution instead of its likeliest ones.
        by_mass: keep as many tokens as leave a given mass out; None: as many everywhere.
        bytes_per_token: bytes on disk for a token of text; how many tokens of the distribution are kept follows from
            it. None: `teacher_top_k` of them.
        dtype: of the log-probabilities on disk.
        batch_tokens: tokens of text, padding included, that go through the model at once.
        shard_tokens: tokens of text in a shard (a file of the cache).
    """

    sampled: bool
    by_mass: ByMass | None
    bytes_per_token: int | None
    dtype: Literal["float16", "float32"]
    batch_tokens: int
    shard_tokens: int


@dataclass(frozen=True)
class Job:
    """A run whose configuration was checked. Models and rows are not opened yet.

    Attributes:
        model: the student's directory, as an absolute path, or its hub name.
        train, evaluation: rows to train on, and rows to measure the loss on (None: there are none).
        layout: None where rows are used as they come.
        args: the trainer's configuration.
        model_args: TRL's options of the model and its adapter.
        cache: what `qtarget teacher cache` reads.
        given: every key the user wrote, TRL's names replaced by ours, and the precision where the machine chose it.
        note: the precision that was chosen for the user, in words; "" where the user chose it.
        streaming: training rows are read while training runs.
        mixture_stopping: when a mixture ends, as `datasets.interleave_datasets` names it.
        sampling: the section `sample`: how `qtarget sample`, and each round, draws and keeps.
        rounds: None for a run of one training.
        row_limit: about how many rows of each source are looked at, the first ones; None for all.
    """

    model: str
    train: DataSource
    evaluation: DataSource | None
    layout: Layout | None
    args: TargetSFTConfig
    model_args: ModelConfig
    cache: CacheOptions
    given: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    streaming: bool = False
    mixture_stopping: MixtureStopping = "first_exhausted"
    sampling: SampleOptions = field(default_factory=SampleOptions)
    rounds: RoundOptions | None = None
    row_limit: int | None = None

    @property
    def method(self) -> qt.Method:
        """The objective, with its hyperparameters."""
        return self.args.build_method()

    @property
    def output(self) -> Path:
        """The directory to write to."""
        return Path(str(self.args.output_dir))
