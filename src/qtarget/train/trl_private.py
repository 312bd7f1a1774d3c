"""Everything private in TRL and transformers that the trainer leans on, under names of our own.

A release that moves one of these fails its test in tests/train/test_trl_private.py; nothing else in the
package names them.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import create_model_from_path as create_model_from_path

from qtarget.data import Asker

Prepare = Callable[[Any, SFTConfig, bool], Any]


class Preparation(NamedTuple):
    """A data set to prepare, and how its rows are rendered as text.

    Attributes:
        name: of the data set, "train" or "eval".  chat_template: the one in the place of the tokenizer's own, or None.
        has_formatter: whether a function of the user turns rows into text first.
        asker: in whose language errors say what to write.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    chat_template: str | None
    has_formatter: bool
    asker: Asker = Asker.PYTHON


class OpenSFTTrainer(SFTTrainer):
    """`SFTTrainer` with its private hooks as public methods, for a subclass to fill in."""

    model: Any
    args: Any
    carried_columns: tuple[str, ...] = ()
    """Columns beside `input_ids`, `labels` and `seq_lengths` that reach the collator."""
    asker: Asker = Asker.PYTHON
    """In whose language errors say what to write."""

    def prepare_rows(self, dataset: Any, prepare: Prepare, args: SFTConfig, packing: bool, request: Preparation) -> Any:
        """A raw data set tokenised, labelled, truncated or packed. `prepare(dataset, args, packing)` is TRL's
        way to do so."""
        return prepare(dataset, args, packing)

    def save_checkpoint(self) -> None:
        """Write `checkpoint-N` of this moment, from which training goes on, whatever `save_strategy` says."""
        self._save_checkpoint(self.model_wrapped, trial=None)

    def save_beside(self, folder: Path) -> None:
        """Called after a checkpoint is written to `folder`, on every rank."""

    def load_beside(self, folder: Path) -> None:
        """Called after the model's weights are read from a checkpoint, on every rank."""

    @property
    def is_vision(self) -> bool:
        return self._is_vlm or self._is_vision_dataset

    @property
    def text_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, out of a processor too."""
        return self._tokenizer

    @property
    def aux_loss_weight(self) -> float | None:
        """Coefficient of the load-balancing loss; None where there is none."""
        return self.router_aux_loss_coef if self.aux_loss_enabled else None

    def leave_balancing_out(self, config: Any) -> None:
        """Train without a load-balancing loss; `config` is the text model's."""
        self.aux_loss_enabled = config.output_router_logits = False

    def count_labels(self) -> None:
        """Have the Trainer count the labels of a whole accumulated batch, whatever the model's forward accepts."""
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = True

    def _prepare_dataset(self, dataset, processing_class, args, packing, formatting_func, dataset_name):
        def prepare(dataset: Any, args: SFTConfig, packing: bool) -> Any:
            return super(OpenSFTTrainer, self)._prepare_dataset(
                dataset, processing_class, args, packing, formatting_func, dataset_name
            )

        has_formatter = formatting_func is not None
        request = Preparation(dataset_name, self._tokenizer, self.chat_template, has_formatter, self.asker)
        return self.prepare_rows(dataset, prepare, args, packing, request)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        missing = [name for name in self.carried_columns if name not in self._signature_columns]
        self._signature_columns = [*self._signature_columns, *missing]

    def _save_checkpoint(self, model, trial) -> None:
        super()._save_checkpoint(model, trial)
        if not self.args.save_only_model:
            self.save_beside(Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}")

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.load_beside(Path(resume_from_checkpoint))


def without_cutting(args: SFTConfig) -> SFTConfig:
    """A copy of the configuration under which TRL tokenises and labels rows but neither cuts nor shuffles them."""
    whole = copy.copy(args)
    whole.max_length, whole.shuffle_dataset = None, False
    return whole
