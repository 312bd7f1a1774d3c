"""`Job`: a checked run, and the parts it is made of."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from trl import ModelConfig  # pyright: ignore[reportPrivateImportUsage]

import qtarget as qt
from qtarget.train import TargetSFTConfig


class DataSource(NamedTuple):
    """Where rows come from.

    Attributes:
        names: paths of files, or one directory or hub name.
        config: name of a configuration of a data set on the hub.
        split: of a directory or a data set on the hub; files are taken whole.
    """

    names: tuple[str, ...]
    config: str | None
    split: str


@dataclass(frozen=True)
class Layout:
    """Which columns are prompt and completion, how a prompt is rendered, and which rows are taken.

    Attributes:
        prompt: a name in `evaluate.prompts`: a question becomes the token ids that evaluation asks with. None leaves
            rendering to TRL.
        take: how many training rows to take, the first ones or, with `seed`, drawn at random; None for all.
        seed: of the draw.
        drop_longer: leave out rows of more than `max_length` tokens, before any is taken, instead of cutting them.
    """

    prompt_column: str
    completion_column: str
    prompt: str | None
    take: int | None
    seed: int | None
    drop_longer: bool


@dataclass(frozen=True)
class CacheOptions:
    """How `qtarget teacher cache` writes: the keys of a configuration that begin with `cache_`.

    Attributes:
        sampled: keep tokens drawn from the teacher's distribution instead of its likeliest ones.
        bytes_per_token: bytes on disk for a token of text; how many tokens of the distribution are kept follows from
            it. None: `teacher_top_k` of them.
        dtype: of the log-probabilities on disk.
        batch_tokens: tokens of text, padding included, that go through the model at once.
        shard_tokens: tokens of text in a shard (a file of the cache).
    """

    sampled: bool
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

    @property
    def method(self) -> qt.Method:
        """The objective, with its hyperparameters."""
        return self.args.build_method()

    @property
    def output(self) -> Path:
        """The directory to write to."""
        return Path(str(self.args.output_dir))
