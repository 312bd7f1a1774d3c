"""`TargetSFTTrainer`: TRL's `SFTTrainer` with its loss replaced by any target's."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel, TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer_utils import EvalLoopOutput

import qtarget as qt
from qtarget.data import (
    EVIDENCE,
    WEIGHT,
    Asker,
    PerTokenCollator,
    RowCounts,
    carries_weight,
    check_positions,
    checked_ids,
    sequence_ids,
)
from qtarget.models.balancing import can_balance
from qtarget.teacher import EvidenceSource, ReadsAhead, check_head
from qtarget.train import checks
from qtarget.train.build_sources import Student, as_teachers, build_reference, build_teachers, causal_lm
from qtarget.train.end_of_turn import EndCheck, check_ends, end_tokens, takes_end_token
from qtarget.train.forward import ModelEvidence, TargetCall, TargetOutput, add_target_loss, text_inputs
from qtarget.train.learn_rows import without_trl_masks
from qtarget.train.log_window import LogWindow
from qtarget.train.lookup import (
    CacheReference,
    check_coverage,
    check_lookups,
    lookup_source,
    name_of,
    rendering,
    with_caches,
)
from qtarget.train.metrics import Meter, diagnostics_of_step, logs_next
from qtarget.train.missed_evaluation import MissedEvaluation
from qtarget.train.nonfinite import FiniteStepCheck, refuse_skipping
from qtarget.train.nonfinite_rows import UNSOUND, MicroBatch, is_sound, say_unsound
from qtarget.train.open_student import open_student
from qtarget.train.prepare_rows import PreparedRows, RowPreparation, prepared_rows
from qtarget.train.process_group import check_group
from qtarget.train.reference import RefreshSnapshot, Snapshot
from qtarget.train.repeats import batch_rows, without_repeats
from qtarget.train.resumption.sealed_run import SealedRun
from qtarget.train.roll_call import ranks_told
from qtarget.train.row_door import RowDoor, student_processor
from qtarget.train.row_mixture import sets_of
from qtarget.train.skipped_steps import SkippedSteps
from qtarget.train.target_sft_config import as_target_config, refuse_other_losses
from qtarget.train.trl_private import OpenSFTTrainer, Preparation, Prepare


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
    carried_columns = (WEIGHT,)
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
        teachers = as_teachers(args.teacher if teacher is None else teacher)
        teachers = with_caches(teachers, as_teachers(args.teacher_cache), "teacher")
        given = args.reference if reference is None else reference
        given = given if args.reference_cache is None else CacheReference(args.reference_cache, name_of(given, model))
        self.method, given = stand_in(method or args.build_method(), given, train_dataset)
        checks.check_method(self.method, teachers, given, args.packing_strategy if args.packing else None)
        checks.check_surroundings(compute_loss_func, processing_class, train_dataset)
        self.prepared: list[PreparedRows] = []
        checks.check_device(args, self.asker)
        checks.check_batch_size(args, self.asker)
        checks.check_learn(args.learn, args.assistant_only_loss or None, args.completion_only_loss, self.asker)
        self.only_turns, args = args.assistant_only_loss and args.learn is not None, without_trl_masks(args)
        quantisation = kwargs.get("quantization_config")
        model, processing_class, args = open_student(model, processing_class, args, quantisation, self.asker)
        processing_class = student_processor(model, args, processing_class)
        self.row_counts: dict[str, RowCounts] = {}
        self.door = RowDoor(args, processing_class, kwargs.get("formatting_func") is not None, self.asker)
        train_dataset, eval_dataset = self.door.through(train_dataset, "train"), self.door.through(eval_dataset, "eval")
        checks.check_weights(self.method, self.door.mixture_of(train_dataset) or train_dataset)
        super().__init__(model, args, data_collator, train_dataset, eval_dataset, processing_class, **kwargs)
        checks.check_built(causal_lm(self.model), self.accelerator, self.is_vision, is_deepspeed_zero3_enabled())
        check_group(args, self.accelerator, self.asker)
        refuse_skipping(args, self.accelerator, self.asker)
        self._check_tokens()
        self._check_ends(train_dataset)
        self.meters = {"train": Meter(), "eval": Meter(), "seen": Meter()}
        self.tokens_seen = 0
        self.skipped_steps = SkippedSteps(self)
        self._finite_steps, self._log_window = FiniteStepCheck(self), LogWindow(self)
        for callback in (self._finite_steps, self._log_window, MissedEvaluation(self)):
            self.add_callback(callback)
        self._add_evidence(teachers, given)
        self.sealed_run = SealedRun(self)
        self.count_labels()
        ahead = {name: source.read for name, source in self.sources.items() if isinstance(source, ReadsAhead)}
        self.data_collator = PerTokenCollator(self.data_collator, ahead=ahead)

    def _check_tokens(self) -> None:
        """Every token has an embedding, and every row has positions; of a stream each row when it comes."""
        for key, name in (("train_dataset", "train"), ("eval_dataset", "eval")):
            rows = getattr(self, key)
            if isinstance(rows, dict):
                rows = {part: self._checked(each, f"{key}[{part!r}]", part) for part, each in rows.items()}
            elif rows is not None:
                rows = self._checked(rows, key, name)
            setattr(self, key, rows)

    def _checked(self, rows: Any, key: str, name: str) -> Any:
        """Prepared rows after those checks; of a mixture each set is checked for itself."""
        mixture = self._mixture_behind(rows)
        if mixture is None:
            return self._checked_set(rows, key, name, self.row_counts.get(name))
        counts = {} if mixture.counts is None else mixture.counts.sets
        sets = {own: self._checked_set(each, own, own, counts[own]) for own, each in mixture.sets.items()}
        if not isinstance(rows, Dataset):  # a stream's rows are checked as they come
            rows = mixture.finished(list(sets.values()))
            self.prepared.append(replace(mixture, rows=rows, sets=sets))
        return rows

    def _mixture_behind(self, rows: Any) -> PreparedRows | None:
        return next((each for each in self.prepared if each.rows is rows), None)

    def _checked_set(self, rows: Any, key: str, name: str, counts: RowCounts | None) -> Any:
        embeddings = self.model.get_input_embeddings().weight.shape[0]
        rows = checked_ids(rows, key, embeddings, self.text_tokenizer, self.asker)
        return check_positions(rows, counts, name, causal_lm(self.model), self.asker, self.args.max_length)

    def _check_ends(self, rows: Any) -> None:
        """Refuse training rows that do not teach the model to stop; warn a Python user, and of rows of token ids."""
        check_ends(self._end_checks(rows), end_tokens(self.model, self.text_tokenizer))

    def _end_checks(self, rows: Any) -> list[tuple[Any, EndCheck]]:
        """The prepared training rows, of a mixture each set, and what is known of their ends.

        Args:
            rows: as they were before they were prepared.
        """
        mixture, prepared = self.door.mixture_of(rows), self._mixture_behind(self.train_dataset)
        sets = {"train": (rows, self.train_dataset)}
        if mixture is not None and prepared is not None:
            given = [each.rows for each in mixture.sets]
            sets = {name: (one, prepared.sets[name]) for name, one in zip(prepared.sets, given, strict=True)}
        looked = []
        for name, (given, made) in sets.items():
            opened = self.door.open_set(given, name)
            is_refused = self.asker is Asker.COMMAND_LINE and opened is not None and opened.form.becomes != "tokens"
            about = (self.text_tokenizer, self.args.max_length, self.asker, is_refused, takes_end_token(opened))
            looked.append((made, EndCheck(name, *about)))
        return looked

    def _add_evidence(self, teachers: Sequence[Any], given: Any) -> None:
        """Teachers, reference and, last, the loss in the forward: copies are taken of the model as it came."""
        base = causal_lm(self.model)
        if self.aux_loss_weight is not None and not can_balance(base):
            checks.refuse_balancing(base, self.args.router_aux_loss_coef)
            self.leave_balancing_out(base.config.get_text_config())
        check_head(base, "model")
        student = Student(self.model, base, self.text_tokenizer, self.args.device)
        find = partial(lookup_source, student=student, method=self.method, args=self.args)
        self.teachers = build_teachers([find(t, f"teacher {i}") for i, t in enumerate(teachers)], student, self.args)
        self.reference = build_reference(find(given, "reference"), self.method, student, self.args)
        check_lookups(self.method, self.sources, student.vocabulary)
        rendered = rendering(self.args, self.text_tokenizer, self.chat_template)
        check_coverage(self.sources, {"train": self.train_dataset, "eval": self.eval_dataset}, rendered)
        is_reference_itself = self.reference is None and given is not None and "reference" in self.method.needs
        self.adapter_off = self.model.disable_adapter if is_reference_itself else None
        if isinstance(self.reference, Snapshot):
            self.add_callback(RefreshSnapshot(self.reference))
        add_target_loss(base)

    def prepare_rows(self, dataset: Any, prepare: Prepare, args: Any, packing: bool, request: Preparation) -> Any:
        prepared = prepared_rows(dataset, RowPreparation(prepare, args, packing, request, self.door))
        self.prepared += [prepared] if prepared.sets else []
        if prepared.counts is not None:
            self.row_counts.setdefault(request.name, prepared.counts)
        return prepared.rows

    @property
    def sources(self) -> dict[str, EvidenceSource]:
        """Where evidence about a batch comes from, by name: the teachers in their order, then the reference."""
        named: dict[str, EvidenceSource] = {f"teacher {index}": teacher for index, teacher in enumerate(self.teachers)}
        return named if self.reference is None else {**named, "reference": self.reference}

    # The loss

    def compute_loss(
        self, model: Any, inputs: dict, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        mode = "train" if self.model.training else "eval"
        checks.check_batch(inputs)
        batch = inputs if mode == "train" else without_repeats(inputs, self.accelerator)
        texts = text_inputs(batch)
        if self.aux_loss_weight is not None:
            texts["output_router_logits"] = True
        out = model(**texts, labels=batch["labels"], q_target=self._call(texts, batch, num_items_in_batch))
        self._measure(mode, out, batch)
        loss = self._whole_loss(out, num_items_in_batch)
        if mode == "train":
            self._finite_steps.add(MicroBatch(loss.detach(), texts, batch))
        return (loss, self._with_logits(model, texts)) if return_outputs else loss

    def _call(self, texts: dict, batch: dict, num_items: Tensor | None) -> TargetCall:
        """The method, and the evidence and weights about this batch that the forward needs."""
        with self.accelerator.autocast():
            evidence = {name: self._evidence(name, source, texts, batch) for name, source in self.sources.items()}
        reference = evidence.pop("reference", None)
        ids = sequence_ids(texts["input_ids"], texts.get("position_ids"))
        return TargetCall(
            self.method,
            tuple(evidence.values()),
            reference,
            self.adapter_off,
            token_weight(batch, self.method),
            ids if "sequence_ids" in self.method.needs else None,
            num_items,
            diagnostics_of_step(self.args.diagnostics, self.method, self._is_logged()),
            width=texts["input_ids"].shape[1],
        )

    def _evidence(self, name: str, source: EvidenceSource, texts: dict, batch: dict) -> ModelEvidence:
        """One source's evidence about the batch: computed now, or read when the batch was made."""
        read = batch.get(EVIDENCE, {}).get(name)
        if read is None:
            return source.evidence(texts, batch["labels"])
        assert isinstance(source, ReadsAhead)
        return source.unpack(read, texts["input_ids"].device)

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
        call = self._call(texts, {**batch, "labels": labels}, None)
        return self.model(**texts, labels=labels, q_target=call).loss

    def _with_logits(self, model: Any, texts: dict) -> Any:
        """Outputs with logits, for `predict` and `compute_metrics`, at the price of a forward pass."""
        warnings.warn(
            "`compute_metrics` and `predict` read logits, which the loss never builds: each batch costs one "
            "more forward pass.",
            stacklevel=2,
        )
        with torch.no_grad():
            return model(**{**texts, "use_cache": False})

    # What is logged

    def _measure(self, mode: str, out: TargetOutput, batch: dict) -> None:
        meter = self.meters[mode]
        meter.add("nll", out.nll * out.num_tokens, out.num_tokens)
        meter.add_tokens(out.diagnostics)
        if out.aux_loss is not None:
            meter.add("aux_loss", out.aux_loss, 1)
        if mode == "train":
            mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
            self.meters["seen"].add("num_tokens", mask.sum(), 1)
        else:
            labels = (batch["labels"][:, 1:] != -100).sum()
            meter.add("loss", out.loss * labels, labels)
            meter.add(UNSOUND, ~(is_sound(out.loss) & is_sound(out.nll)), 1)

    def _is_logged(self) -> bool:
        return not self.model.training or logs_next(self.args, self.state)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the token means since the last log to a training log."""
        if self.model.training:
            logs.update(self._means("train"))
            self.skipped_steps.mend(logs)
        self.skipped_steps.mend_mean(logs)
        super().log(logs, start_time)

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's. Rows that are given here go through the same door as those given when it was built."""
        checks.check_data_sets(None, None if isinstance(eval_dataset, str) else eval_dataset)
        return super().evaluate(eval_dataset, *args, **kwargs)  # pyright: ignore[reportArgumentType]  (a set's name, too)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self._checked(eval_dataset, "eval_dataset", "eval")
        return super().get_eval_dataloader(eval_dataset)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As the Trainer's, with `loss` and the other measures averaged over tokens, not over batches."""
        self.meters["eval"] = Meter()
        output = super().evaluation_loop(*args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics: Any = output.metrics
        means = self._means("eval")
        say_unsound(means.pop(UNSOUND, 0.0), means)
        metrics.update({f"{prefix}_{name}": value for name, value in means.items()})
        return output

    def _means(self, mode: str) -> dict[str, float]:
        """Token means over ranks since the last reading, and how many tokens training has read by now."""
        sums = self.meters[mode].read(self._over_ranks)
        new_tokens, _ = self.meters["seen"].read(self._over_ranks).get("num_tokens", (0, 0))
        self.tokens_seen += int(new_tokens) // self.get_tp_size()
        means = {name: total / count for name, (total, count) in sums.items() if count > 0}
        return {**means, "num_tokens": self.tokens_seen} if means else {}

    def _over_ranks(self, table: Tensor) -> Any:
        return self.accelerator.reduce(table, "sum")

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
        with ranks_told(), self.sealed_run.only_writer():
            start = self.sealed_run.begin(resume_from_checkpoint)
            output = super().train(None if start is None else str(start), *args, **kwargs)
        return output._replace(training_loss=output.metrics.get("train_loss", math.nan))

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
        if isinstance(self.reference, Snapshot):
            self.reference.save(folder, writes=self.args.should_save)

    def load_beside(self, folder: Path) -> None:
        self._log_window.load(folder)
        if isinstance(self.reference, Snapshot):
            self.reference.load(folder)


def stand_in(method: qt.Method, reference: Any, dataset: Any) -> tuple[qt.Method, Any]:
    """The method to run and its reference: weighted rows may bring what a reference would give (iw-sft)."""
    is_weighted = bool(sets_of(dataset)) and all(map(carries_weight, sets_of(dataset)))
    if method.without_reference is None or (reference is not None and not is_weighted):
        return method, reference
    return method.without_reference, None


def token_weight(batch: dict, method: qt.Method) -> Tensor | None:
    """The batch's weights; 1 for rows without any (an evaluation set's) under a method that reads them."""
    if WEIGHT not in batch and "token_weight" in method.needs:
        return torch.ones_like(batch["input_ids"], dtype=torch.float32)
    return batch.get(WEIGHT)
