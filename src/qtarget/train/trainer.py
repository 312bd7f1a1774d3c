"""`TargetSFTTrainer`: TRL's `SFTTrainer` with its loss replaced by any target's."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, TrainingArguments
from transformers.trainer_utils import EvalLoopOutput

import qtarget as qt
from qtarget.data import TEACHER_IDS, WEIGHT, PerTokenCollator, RowCounts, check_positions, checked_ids
from qtarget.models.balancing import can_balance
from qtarget.models.causal_lm import keep_quantised_layout, layer_rows
from qtarget.teacher import EvidenceSource, check_head
from qtarget.train import checks
from qtarget.train.attention_kernels import without_cudnn_attention
from qtarget.train.build_sources import Student, causal_lm
from qtarget.train.end_of_turn import EndCheck, check_ends, end_tokens
from qtarget.train.equal_teacher import check_equal_teacher, tells_more
from qtarget.train.forward import TargetOutput, add_target_loss, text_inputs, with_logits
from qtarget.train.kept_mass import warn_of_thin_sources
from qtarget.train.learn_rows import without_trl_masks
from qtarget.train.log_window import LogWindow
from qtarget.train.lookup import check_coverage, in_order_of_caches, rendering
from qtarget.train.missed_evaluation import MissedEvaluation
from qtarget.train.nonfinite import FiniteStepCheck, refuse_skipping
from qtarget.train.nonfinite_rows import UNSOUND, MicroBatch, say_unsound
from qtarget.train.open_student import open_student
from qtarget.train.prepare_rows import RowPreparation
from qtarget.train.prepared_sets import PreparedSets
from qtarget.train.process_group import check_group, check_saving, check_zero3
from qtarget.train.reference import RefreshSnapshot, Snapshot
from qtarget.train.repeats import batch_rows, without_repeats
from qtarget.train.resumption.sealed_run import SealedRun
from qtarget.train.roll_call import ranks_told
from qtarget.train.row_door import RowDoor, student_processor
from qtarget.train.run_progress import RunProgress
from qtarget.train.run_sources import (
    check_prompts_fit,
    given_sources,
    named_sources,
    open_sources,
    reads_ahead,
    stand_in,
)
from qtarget.train.self_teacher import FollowStudent, StudentAverage
from qtarget.train.skipped_steps import SkippedSteps
from qtarget.train.target_calls import TargetCalls
from qtarget.train.target_sft_config import as_target_config, refuse_other_losses
from qtarget.train.token_means import TokenMeans
from qtarget.train.trl_preparation import Preparation, Prepare
from qtarget.train.trl_private import OpenSFTTrainer
from qtarget.train.vocabulary_cut import vocabulary_cut


class TargetSFTTrainer(OpenSFTTrainer):
    """Fine-tunes a causal language model by any target of `qtarget`; everything else is as in `trl.SFTTrainer`.

    The loss is computed inside the model's forward from hidden states and output layer; no logits are built in
    training. `loss` is the objective's value, divided by the number of labels over all ranks and accumulation steps;
    `nll` stands beside it and compares across methods. Evaluation weighs every token of the whole set alike, on any
    number of ranks; its `loss` leaves the load-balancing loss of a mixture of experts to `aux_loss`.

    A method of batch scope (talr) sees one micro-batch of one rank at a time: there, unlike elsewhere,
    accumulation steps and ranks change what is computed.

    Args:
        model, data_collator, train_dataset, eval_dataset, processing_class: as in `trl.SFTTrainer`.
        args: a `TargetSFTConfig`. An `SFTConfig` or any other `TrainingArguments` is taken too, with `method` (by
            default sft).
        method: a composed `qt.Method`, in the place of `args.method`.
        teacher: a model, anything with `evidence(inputs, labels)`, or a sequence of them, in the place of
            `args.teacher`. A model object without a tokenizer at its path is taken to share the student's.
        reference: a model or anything with `evidence(inputs, labels)`, in the place of `args.reference`.
        **kwargs: the rest of `trl.SFTTrainer`'s arguments.

    Rows may weigh their tokens: `token_weight` beside `input_ids`, or `weight_spans`, lists of `[start, end, weight]`
    in characters of the completion, of the text, or (one list for each message) of the messages' contents.

    Attributes:
        sealed_run: what the run is, for the manifests of its checkpoints.
        row_counts: how many rows and tokens of each data set are trained on, "train" and "eval" (or each evaluation set
            by its name), and what became of the others.

    Raises:
        ValueError: for what cannot be trained, when the trainer is built; each names the line to write.
        NonFiniteLossError: in training, before the weights are touched.
        NonFiniteWeightsError: where weights that are NaN or infinite would be trained or written.
    """

    loss_is_scaled_for_ga = True
    carried_columns = (WEIGHT, TEACHER_IDS)
    _tag_names = ["trl", "sft", "qtarget"]  # noqa: RUF012  (TRL's own declaration)

    def __init__(
        self,
        model: str | PreTrainedModel | Any,
        args: TrainingArguments | None = None,
        data_collator: Callable | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        *,
        method: qt.Method | None = None,
        teacher: PreTrainedModel | EvidenceSource | Sequence | None = None,
        reference: PreTrainedModel | EvidenceSource | None = None,
        compute_loss_func: Callable | None = None,
        **kwargs: Any,
    ) -> None:
        checks.check_data_sets(train_dataset, eval_dataset)
        args = as_target_config(args)
        refuse_other_losses(args)
        teachers, given = given_sources(teacher, reference, model, args)
        self.method, given = stand_in(method or args.build_method(), given, train_dataset)
        checks.check_method(self.method, teachers, given, args.packing_strategy if args.packing else None)
        checks.check_schedule(self.method, args, train_dataset)
        checks.check_surroundings(compute_loss_func, processing_class, train_dataset)
        checks.check_device(args, self.asker)
        checks.check_batch_size(args, self.asker)
        checks.check_row_order(args, self.asker)
        if kwargs.get("optimizers", (None, None))[1] is None:
            checks.check_rate_schedule(args, self.asker)
        checks.check_following(args, train_dataset, self.asker)
        checks.check_learn(args.learn, args.assistant_only_loss or None, args.completion_only_loss, self.asker)
        self.only_turns, args = args.assistant_only_loss and args.learn is not None, without_trl_masks(args)
        quantisation, given_model = kwargs.get("quantization_config"), model
        model, processing_class, args = open_student(model, processing_class, args, quantisation, self.asker)
        check_saving(model, args, self.asker)
        processing_class = student_processor(model, args, processing_class)
        self.door = RowDoor(args, processing_class, kwargs.get("formatting_func") is not None, self.asker)
        self.prepared = PreparedSets(self.door, self._checked_set)
        self.row_counts = self.prepared.row_counts
        train_dataset, eval_dataset = self.door.through(train_dataset, "train"), self.door.through(eval_dataset, "eval")
        checks.check_teacher_prompts(self.method, self.door.opened, self.asker)
        named, adapter = self.student_as_given(given_model, kwargs.get("peft_config"))
        self._check_equal_teacher = partial(check_equal_teacher, self.method, teacher, named, args, adapter, self.asker)
        if not (parts := checks.teacher_parts(self.door.opened)):
            self._check_equal_teacher(parts)
        checks.check_weights(self.method, self.door.mixture_of(train_dataset) or train_dataset)
        super().__init__(model, args, data_collator, train_dataset, eval_dataset, processing_class, **kwargs)
        checks.check_built(causal_lm(self.model), self.accelerator, self.is_vision)
        check_group(args, self.accelerator, self.asker)
        check_zero3(self.accelerator)
        refuse_skipping(args, self.accelerator, self.asker)
        self.vocabulary_cut = vocabulary_cut(causal_lm(self.model), self.method, args, self.accelerator, self.asker)
        self._check_tokens()
        self._check_ends(train_dataset)
        self.check_told(self.train_dataset)
        self.run_progress = RunProgress(self)
        self.token_means, self.target_calls = TokenMeans(self), TargetCalls(self)
        self.skipped_steps = SkippedSteps(self)
        self._finite_steps, self._log_window = FiniteStepCheck(self), LogWindow(self)
        for callback in (self._finite_steps, self._log_window, self.run_progress, MissedEvaluation(self)):
            self.add_callback(callback)
        self._add_evidence(teachers, given)
        self.sealed_run = SealedRun(self)
        self.count_labels()
        self.data_collator = PerTokenCollator(self.data_collator, ahead=reads_ahead(self.sources))
        self._own_collator = self.data_collator if data_collator is None else None

    def student_as_given(self, model: Any, adapter: Any) -> tuple[Any, Any]:
        """The student as the caller gave it, and the configuration of an adapter that is put on it."""
        return model, adapter

    def _check_tokens(self) -> None:
        """Every token has an embedding, and every row has positions; of a stream each row when it comes."""
        for key, name in (("train_dataset", "train"), ("eval_dataset", "eval")):
            setattr(self, key, self.prepared.all_checked(getattr(self, key), key, name))

    def _checked_set(self, rows: Any, key: str, name: str, counts: RowCounts | None) -> Any:
        embeddings = layer_rows(self.model.get_input_embeddings().weight)
        rows = checked_ids(rows, key, embeddings, self.text_tokenizer, self.asker)
        return check_positions(rows, counts, name, causal_lm(self.model), self.asker, self.args.max_length)

    def check_told(self, rows: Any) -> None:
        """Refuse prepared rows that tell a teacher which is the student no more than the student, or warn of them."""
        parts = checks.teacher_parts(self.door.opened)
        if parts and not tells_more(rows):
            self._check_equal_teacher(parts)

    def _check_ends(self, rows: Any) -> None:
        """Refuse training rows that do not teach the model to stop; warn a Python user, and of rows of token ids."""
        check_ends(self._end_checks(rows), end_tokens(self.model, self.text_tokenizer))

    def _end_checks(self, rows: Any) -> list[tuple[Any, EndCheck]]:
        """As `PreparedSets.end_checks`, of training rows as they were before they were prepared."""
        return self.prepared.end_checks(rows, self.train_dataset, self.text_tokenizer, self.args.max_length)

    def _add_evidence(self, teachers: Sequence[Any], given: Any) -> None:
        """Teachers, reference and, last, the loss in the forward: copies are taken of the model as it came."""
        base = causal_lm(self.model)
        keep_quantised_layout(self.model)
        if self.aux_loss_weight is not None and not can_balance(base):
            checks.refuse_balancing(base, self.args.router_aux_loss_coef)
            self.leave_balancing_out(base.config.get_text_config())
        check_head(base, "model")
        student = Student(self.model, base, self.text_tokenizer, self.args.device)
        self.teachers, self.reference, self.adapter_off = open_sources(teachers, given, self.method, student, self.args)
        rendered = rendering(self.args, self.text_tokenizer, self.chat_template)
        datasets = {"train": self.train_dataset, "eval": self.eval_dataset}
        check_coverage(self.sources, datasets, rendered)
        if self.args.follow_cache:
            self.train_dataset = in_order_of_caches(self.train_dataset, self.sources)
        if self.is_world_process_zero():
            warn_of_thin_sources(self.sources, self.train_dataset, self.asker)
        check_prompts_fit(self.teachers, datasets, checks.teacher_parts(self.door.opened), self.asker)
        if isinstance(self.reference, Snapshot):
            self.add_callback(RefreshSnapshot(self.reference))
        for average in self._averages:
            self.add_callback(FollowStudent(average))
        add_target_loss(base)

    def prepare_rows(self, dataset: Any, prepare: Prepare, args: Any, packing: bool, request: Preparation) -> Any:
        return self.prepared.prepare(dataset, RowPreparation(prepare, args, packing, request, self.door))

    @property
    def sources(self) -> dict[str, EvidenceSource]:
        """Where evidence about a batch comes from, by name: the teachers in their order, then the reference."""
        return named_sources(self.teachers, self.reference)

    @property
    def _averages(self) -> list[StudentAverage]:
        """Teachers that follow the student."""
        return [teacher for teacher in self.teachers if isinstance(teacher, StudentAverage)]

    # The loss

    def compute_loss(
        self, model: Any, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        mode = "train" if self.model.training else "eval"
        checks.check_batch(inputs)
        batch = inputs if mode == "train" else without_repeats(inputs, self.accelerator, self.get_tp_size())
        texts = text_inputs(batch)
        if self.aux_loss_weight is not None:
            texts["output_router_logits"] = True
        out = model(**texts, labels=batch["labels"], q_target=self.target_calls.of(texts, batch, num_items_in_batch))
        self.token_means.add(mode, out, batch)
        loss = self._whole_loss(out, num_items_in_batch)
        if mode == "train":
            self.run_progress.add(out, batch["labels"], num_items_in_batch)
            self._finite_steps.add(MicroBatch(loss.detach(), texts, batch))
        return (loss, with_logits(model, texts)) if return_outputs else loss

    def _whole_loss(self, out: TargetOutput, num_items: Tensor | None) -> Tensor:
        """The micro-batch's share of the step's loss, scaled as TRL scales its own.

        `num_items` counts the labels of every rank and DDP averages gradients over ranks, hence the factor;
        the load-balancing loss is a mean per micro-batch, averaged over accumulation steps.
        """
        loss = out.loss
        if self.args.average_tokens_across_devices and num_items is not None:
            loss = loss * (self.accelerator.num_processes // self.get_tp_size())
        if self.aux_loss_weight is None or out.aux_loss is None:
            return loss
        steps = self.current_gradient_accumulation_steps if num_items is not None else 1
        return loss + self.aux_loss_weight * out.aux_loss / steps

    def row_loss(self, texts: dict, batch: dict, row: int) -> Tensor:
        """The loss of one row of a batch alone, for saying which row was at fault."""
        labels = batch["labels"].masked_fill(batch_rows(batch) != row, -100)
        call = replace(self.target_calls.of(texts, {**batch, "labels": labels}, None), cut=None)
        return self.model(**texts, labels=labels, q_target=call).loss

    # What is logged

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the token means since the last log to a training log."""
        if self.model.training:
            logs.update(self.token_means.read("train"))
            if "progress" in self.method.needs and "loss" in logs:
                logs["progress"] = self.run_progress.used
            self.skipped_steps.mend(logs)
        self.skipped_steps.mend_mean(logs)
        super().log(logs, start_time)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's. Rows that are given here go through the same door as those given when it was built."""
        checks.check_data_sets(None, None if isinstance(eval_dataset, str) else eval_dataset)
        return super().evaluate(eval_dataset, *args, **kwargs)  # pyright: ignore[reportArgumentType]  (a set's name, too)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self.prepared.checked(eval_dataset, "eval_dataset", "eval")
        return super().get_eval_dataloader(eval_dataset)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As the Trainer's, with `loss` and the other measures averaged over tokens, not over batches."""
        self.token_means.begin_evaluation()
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics: Any = output.metrics
        means = self.token_means.read("eval")
        say_unsound(means.pop(UNSOUND, 0.0), means)
        metrics.update({f"{prefix}_{name}": value for name, value in means.items()})
        return output

    # What is saved, and where a run goes on

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's, from a checkpoint that is whole and of this very run.

        Args:
            resume_from_checkpoint: a folder, or True for the newest whole checkpoint in `args.output_dir`; newer ones
                that are not whole are passed over, with a warning.

        Returns:
            The Trainer's output. `training_loss` is the mean over the steps of the whole run, also of those before it
            was resumed; NaN where these are not known, and where no step was left.

        Raises:
            ValueError: there is no whole checkpoint, or it is of another run (`args.resume_changed` names what may
                differ); or another process trains into the same folder.
            NonFiniteLossError: before the weights are touched.
            LostRankError: another rank has ended; the message names it and its words.
        """
        with ranks_told(), self.sealed_run.only_writer(), without_cudnn_attention():
            start = self.sealed_run.begin(resume_from_checkpoint)
            try:
                output = super().train(None if start is None else str(start), *args, **kwargs)
            finally:
                self.sealed_run.end()
        return output._replace(training_loss=output.metrics.get("train_loss", math.nan))

    @property
    def has_given_collator(self) -> bool:
        """Whether the collator is a caller's, and not the one that follows from the configuration."""
        return self.data_collator is not self._own_collator

    @property
    def stream_settings(self) -> Mapping[str, Any]:
        """By name, what a caller has set that decides which rows of a stream are read."""
        return {}

    def last_checkpoint(self) -> Path | None:
        """The newest whole checkpoint of this run, or the one that it began from."""
        return self.sealed_run.newest()

    def seal(self, folder: Path) -> None:
        self.sealed_run.seal(folder, "checkpoint")

    def check_writer(self) -> None:
        self.sealed_run.check_writer()

    def begin_steps(self, done: int, last: int) -> None:
        self.sealed_run.begin_steps(done, last)

    def check_best(self, folder: Path) -> None:
        self.sealed_run.check_best(folder)

    def checkpoint_lost(self, folder: Path, error: Exception, was_best: bool) -> None:
        self.sealed_run.lose(folder, error, was_best)

    def save_beside(self, folder: Path) -> None:
        self._log_window.save(folder)
        if self.args.should_save:
            self.run_progress.save(folder)
        if isinstance(self.reference, Snapshot):
            self.reference.save(folder, writes=self.args.should_save)
        for average in self._averages:
            average.save(folder, writes=self.args.should_save)

    def load_beside(self, folder: Path) -> None:
        self._log_window.load(folder)
        self.run_progress.load(folder)
        if isinstance(self.reference, Snapshot):
            self.reference.load(folder)
        for average in self._averages:
            average.load(folder)
