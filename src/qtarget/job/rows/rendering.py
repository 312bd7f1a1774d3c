"""A run's rows as it will train on them, without the models it trains."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from qtarget.job.config.job import Job
from qtarget.job.rows.layout import evaluation_rows, training_rows
from qtarget.teacher import Document, documents_of_rows
from qtarget.teacher.cache import Ranks
from qtarget.train import TargetSFTTrainer
from qtarget.train.lookup import rendering


@dataclass(frozen=True)
class RenderedRows:
    """A run's rows as it will train on them, and evaluate.

    Attributes:
        parts: what made them so, for a cache's key.
    """

    documents: list[Document]
    parts: dict[str, str]
    tokenizer: PreTrainedTokenizerBase
    ranks: Ranks


class RowsTrainer(TargetSFTTrainer):
    """The trainer of a run as far as its rows, around a model without weights."""

    def _add_evidence(self, teachers: Sequence[Any], given: Any) -> None:
        self.teachers, self.reference = (), None


def render(job: Job) -> RenderedRows:
    """The rows as `qtarget train` would prepare them; no weights are needed for it."""
    train, evaluation = training_rows(job).laid_out, evaluation_rows(job)
    own = {"revision": job.model_args.model_revision, "trust_remote_code": job.args.trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(job.model, **own)
    trainer = RowsTrainer(
        _outline(job.model, own),
        _plain(job),
        None,
        train,
        None if evaluation is None else evaluation.laid_out,
        tokenizer,
    )
    accelerator = trainer.accelerator
    sets: list[Any] = [rows for rows in (trainer.train_dataset, trainer.eval_dataset) if rows is not None]
    return RenderedRows(
        documents=[one for rows in sets for one in documents_of_rows(rows.with_format("numpy"))],
        parts=rendering(trainer.args, trainer.text_tokenizer, trainer.chat_template),
        tokenizer=trainer.text_tokenizer,
        ranks=Ranks(accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone),
    )


def _plain(job: Job) -> Any:
    """The run's own settings, less what a trainer does on the hub and with weights when it is built."""
    args = copy.copy(job.args)
    args.push_to_hub, args.model_init_kwargs = False, None
    return args


def _outline(source: str, own: dict[str, Any]) -> PreTrainedModel:
    """The student without its weights."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source, **own))
    model.hf_device_map = {"": "meta"}  # said to be placed already, so the Trainer does not try to
    return model
