"""What a first configuration is chosen by: the model without its weights, and the rows as they would be trained on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import get_dataset_split_names
from transformers import PreTrainedTokenizerBase

from qtarget.data import Asker, RowCounts, checked_ids
from qtarget.data.batches.positions import positions_of
from qtarget.data.user_files.formats import reader_of
from qtarget.fused.memory import free_bytes
from qtarget.job.build import remove_if_empty, unreachable_models
from qtarget.job.config.checked_job import DataSource, Job
from qtarget.job.rows.rendering import RowsTrainer, rows_trainer
from qtarget.job.rows.sources import FIRST_ROWS
from qtarget.job.rows.splits import HELD_OUT, splits_of_files
from qtarget.models.loading import adapter_config, tokenizer_of
from qtarget.models.pickled_weights import ALLOW, refuse_pickled_weights
from qtarget.models.same_tokens import check_same_tokens
from qtarget.teacher import SourceKind, SourceName
from qtarget.train.build_sources import as_teachers
from qtarget.train.end_of_turn import check_ends, end_token_to_write, end_tokens


@dataclass(frozen=True)
class ModelFacts:
    """A model as its folder describes it.

    Attributes:
        architecture: its class in transformers.
        parameters: how many weights it has.
        layers, width, vocabulary: numbers of layers, of the hidden states' entries and of the output layer's rows.
        positions: tokens it was made for; None where it does not say.
        has_template: whether its tokenizer has a chat template.
        ends: the tokens at which generation stops.
        has_padding: whether the tokenizer has a token that pads, or ends, a text.
    """

    architecture: str
    parameters: int
    layers: int | None
    width: int
    vocabulary: int
    positions: int | None
    has_template: bool
    ends: tuple[str, ...]
    has_padding: bool


@dataclass(frozen=True)
class LengthFacts:
    """Lengths of rows in tokens, before anything is cut: of half of them, of 95 in 100, and the longest."""

    half: int
    most: int
    longest: int


@dataclass(frozen=True)
class RunFacts:
    """Everything that is looked at.

    Attributes:
        counts: the rows and their tokens, as `validate` counts them.
        becomes: what the rows are read as: "messages", "prompt and completion", "text" or "tokens"; of a mixture each.
        sampled: only the first rows were looked at.
        eos_token: the end token that has to be named; None where none has.
        held_out: a split of the training data that is held out; None where there is none.
        free: bytes of memory that are free on the device to train on; None where nothing says so.
        teacher_bytes: of the teachers' weights on disk, where they are here.
        device: "cuda" or "cpu".
    """

    model: ModelFacts
    counts: RowCounts
    becomes: tuple[str, ...]
    lengths: LengthFacts
    sampled: bool
    eos_token: str | None
    held_out: str | None
    free: int | None
    teacher_bytes: int
    device: str


class LookTrainer(RowsTrainer):
    """Prepares rows, uncut, and looks at how they end."""

    ends: tuple[str, ...] = ()
    eos_token: str | None = None

    def _checked_set(self, rows: Any, key: str, name: str, counts: RowCounts | None) -> Any:
        """Every token has an embedding. Whether it has a position depends on `max_length`, which is chosen later."""
        embeddings = self.model.get_input_embeddings().weight.shape[0]
        return checked_ids(rows, key, embeddings, self.text_tokenizer, self.asker)

    def _check_ends(self, rows: Any) -> None:
        looked, ends = self._end_checks(rows), end_tokens(self.model, self.text_tokenizer)
        self.ends = tuple(map(str, self.text_tokenizer.convert_ids_to_tokens(sorted(ends))))
        self.eos_token = end_token_to_write(looked, ends)
        if self.eos_token is None:
            check_ends(looked, ends)


def look_at_run(job: Job) -> RunFacts:
    """Look at the model and the rows of a run.

    Raises:
        ValueError: as `qtarget validate`, of a model, rows or a teacher that cannot be trained with.
    """
    _check_model(job)
    sampled = job.streaming or job.row_limit is not None
    looked = replace(job, streaming=False, row_limit=FIRST_ROWS) if sampled else job
    try:
        with remove_if_empty(job.output):
            trainer = rows_trainer(looked, LookTrainer, max_length=None, packing=False)
    except OSError as error:
        raise ValueError(unreachable_models(job, error)) from error
    _check_teachers(job, trainer.text_tokenizer)
    rows: Any = trainer.train_dataset
    counts = trainer.row_counts["train"]
    device = torch.device("cuda" if torch.cuda.is_available() and not job.args.use_cpu else "cpu")
    return RunFacts(
        model=_model_facts(trainer),
        counts=counts,
        becomes=_forms(trainer),
        lengths=_lengths(rows),
        sampled=sampled,
        eos_token=trainer.eos_token,
        held_out=None if job.evaluation is not None else held_out_split(job.train),
        free=free_bytes(device),
        teacher_bytes=sum(_bytes_on_disk(Path(name)) for name in _loaded_teachers(job)),
        device=device.type,
    )


def _check_model(job: Job) -> None:
    adapter = adapter_config(job.model) if Path(job.model).is_dir() else None
    if adapter is not None:
        raise ValueError(
            f"`model: {job.given['model']}` is a LoRA adapter on {adapter['base_model_name_or_path']}, and no model of "
            f"its own; merge it first, `qtarget merge {job.given['model']} --out merged`, and write `model: merged`."
        )
    if not job.args.allow_pickled_weights:
        refuse_pickled_weights(job.model, Asker.COMMAND_LINE.line(ALLOW, True))


def _loaded_teachers(job: Job) -> list[str]:
    names = [str(name) for name in as_teachers(job.args.teacher) if job.args.teacher_cache is None]
    return [name for name in names if SourceName.parse(name).kind is SourceKind.MODEL]


def _check_teachers(job: Job, tokenizer: PreTrainedTokenizerBase) -> None:
    for index, name in enumerate(_loaded_teachers(job)):
        if not job.args.allow_pickled_weights:
            refuse_pickled_weights(name, Asker.COMMAND_LINE.line(ALLOW, True))
        theirs = tokenizer_of(name, job.args.trust_remote_code)
        assert theirs is not None
        check_same_tokens(tokenizer, theirs, f"teacher {index}")


def _model_facts(trainer: LookTrainer) -> ModelFacts:
    model, tokenizer = trainer.model, trainer.text_tokenizer
    config: Any = model.config.get_text_config()
    return ModelFacts(
        architecture=type(model).__name__,
        parameters=sum(weight.numel() for weight in model.parameters()),
        layers=getattr(config, "num_hidden_layers", None),
        width=config.hidden_size,
        vocabulary=model.get_output_embeddings().weight.shape[0],
        positions=positions_of(model)[0],
        has_template=bool(tokenizer.chat_template),
        ends=trainer.ends,
        has_padding=tokenizer.pad_token is not None or tokenizer.eos_token is not None,
    )


def _forms(trainer: LookTrainer) -> tuple[str, ...]:
    return tuple(dict.fromkeys(opened.form.becomes for opened in trainer.door.opened))


def _lengths(rows: Any) -> LengthFacts:
    lengths = np.array([len(ids) for ids in rows.with_format("numpy")["input_ids"]])
    half, most = np.quantile(lengths, (0.5, 0.95), method="inverted_cdf")
    return LengthFacts(int(half), int(most), int(lengths.max()))


def _bytes_on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder.is_dir() else 0


def held_out_split(source: DataSource) -> str | None:
    """A split of the training data that is named as one that is held out; None where there is none, or where that
    cannot be found out."""
    if source.sets or len(source.names) != 1 or source.split != "train":
        return None
    return next((name for name in HELD_OUT if name in _splits(Path(source.names[0]).expanduser(), source)), None)


def _splits(path: Path, source: DataSource) -> Sequence[str]:
    if path.is_file():
        return ()
    if (path / "dataset_dict.json").is_file():
        return [each.name for each in path.iterdir() if each.is_dir()]
    if path.is_dir():
        return list(splits_of_files(path, [file for file in path.rglob("*") if file.is_file() and reader_of(file)]))
    try:
        return get_dataset_split_names(source.names[0], source.config)
    except (ValueError, OSError):  # the rows were read, so whatever this is, it does not keep anybody from training
        return ()
