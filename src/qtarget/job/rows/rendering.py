"""A run's rows as token ids, exactly as it will train on them, made without loading any weights."""

import copy
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from trl import get_peft_config  # pyright: ignore[reportPrivateImportUsage]

from qtarget.data import Asker
from qtarget.job.config.checked_job import Job
from qtarget.job.rows.layout import evaluation_rows, training_rows
from qtarget.models.named_kernels import IMPLEMENTATIONS, refuse_named_kernels
from qtarget.teacher import Document
from qtarget.teacher.cache import Ranks
from qtarget.train import TargetSFTTrainer
from qtarget.train.lookup import documents_read, rendering


@dataclass(frozen=True)
class RenderedRows:
    """A run's rows as it will train and evaluate on them.

    Attributes:
        sets: the prepared data sets.
        parts: tokenizer, template and truncation that made them, for a cache's identity.
        tokenizer: the student's.
        ranks: the processes that share the work.
    """

    sets: Sequence[Any]
    parts: dict[str, str]
    tokenizer: PreTrainedTokenizerBase
    ranks: Ranks

    def documents(self, reader: str) -> list[Document]:
        """The token ids of each document, as a teacher or the reference reads it; `reader` is the source's name."""
        return [document for rows in self.sets for document in documents_read(reader, rows.with_format("numpy"))]


class RowsTrainer(TargetSFTTrainer):
    """A trainer that only prepares rows: its model has no weights, and teachers and reference are not opened."""

    asker = Asker.COMMAND_LINE

    def __init__(self, job: Job, *given: Any) -> None:
        self.job = job
        super().__init__(*given)

    def student_as_given(self, model: Any, adapter: Any) -> tuple[Any, Any]:
        return self.job.model, get_peft_config(self.job.model_args)

    def _add_evidence(self, teachers: Sequence[Any], given: Any) -> None:
        self.teachers, self.reference = (), None


RowsTrainerKind = TypeVar("RowsTrainerKind", bound=RowsTrainer)


def render(job: Job) -> RenderedRows:
    """The rows as `qtarget train` would prepare them.

    Raises:
        ValueError: rows that do not exist or cannot be trained on.
    """
    if job.streaming:
        raise ValueError(
            "`streaming: true` reads rows while training runs, and a cache holds what a teacher says about each of "
            "them; write `streaming: false`."
        )
    trainer = rows_trainer(job)
    accelerator = trainer.accelerator
    sets: list[Any] = [rows for rows in (trainer.train_dataset, trainer.eval_dataset) if rows is not None]
    return RenderedRows(
        sets=sets,
        parts=rendering(trainer.args, trainer.text_tokenizer, trainer.chat_template),
        tokenizer=trainer.text_tokenizer,
        ranks=Ranks(accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone),
    )


def rows_trainer(job: Job, kind: type[RowsTrainerKind] = RowsTrainer, **changes: Any) -> RowsTrainerKind:
    """A trainer that has prepared a run's rows; its model has no weights.

    Args:
        changes: fields of the trainer's configuration that are others than the run's.

    Raises:
        ValueError: rows that do not exist or cannot be trained on.
    """
    train, evaluation = training_rows(job).laid_out, evaluation_rows(job)
    hub_options = {"revision": job.model_args.model_revision, "trust_remote_code": job.args.trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(job.model, **hub_options)
    refuse_named_kernels(job.model, {**hub_options, **attention_of(job)})
    model = model_without_weights(job.model, hub_options)
    held_out = None if evaluation is None else evaluation.laid_out
    return kind(job, model, _local_args(job, changes), None, train, held_out, tokenizer)


def _local_args(job: Job, changes: dict[str, Any]) -> Any:
    """The trainer's configuration without what it would do with the hub and with weights when it is built."""
    args = copy.copy(job.args)
    for name, value in {"push_to_hub": False, "model_init_kwargs": None, **changes}.items():
        setattr(args, name, value)
    return args


def attention_of(job: Job) -> dict[str, Any]:
    """The implementations of attention and experts that a run says itself, as arguments of its student."""
    given: Any = job.args.model_init_kwargs or {}
    named = {"attn_implementation": job.model_args.attn_implementation, **given}
    return {name: named[name] for name in IMPLEMENTATIONS if named.get(name) is not None}


def model_without_weights(source: str, hub_options: dict[str, Any]) -> PreTrainedModel:
    """A model of the source's configuration on torch's `meta` device, where tensors have shapes and no numbers."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(source, **hub_options),
            trust_remote_code=hub_options["trust_remote_code"],
            attn_implementation="eager",  # no kernel of the hub is fetched
        )
    revision: Any = hub_options.get("revision")
    with suppress(OSError):  # a model need not have any
        model.generation_config = GenerationConfig.from_pretrained(source, revision=revision)
    # a chat template of another tokenizer may bring tokens, and their embeddings cannot be drawn from numbers here
    model.resize_token_embeddings = partial(model.resize_token_embeddings, mean_resizing=False)
    model.hf_device_map = {"": "meta"}  # the Trainer takes it for placed then, and does not move it
    return model
