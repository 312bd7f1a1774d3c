"""The trainer's configuration: TRL's `SFTConfig` and what a target needs beside it."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from transformers import TrainingArguments
from trl.trainer.sft_config import SFTConfig

import qtarget as qt
from qtarget.data import LEARN
from qtarget.fused.arguments import DIAGNOSTICS
from qtarget.train.process_group import join_group

ON_NONFINITE = ("stop", "skip")
_LESS_IS_BETTER = ("nll", "target_kl")
"""Measures of an evaluation, by the ends of their names; transformers knows of those that end with "loss"."""


@dataclass
class TargetSFTConfig(SFTConfig):
    """`trl.SFTConfig` with a method in the place of `loss_type`.

    Plain values only, so it goes through YAML, JSON, `TrlParser` and the command line. Objects (a composed
    `qt.Method`, models in memory) are given to the trainer itself.

    Args:
        method: name in `qt.METHODS`.
        method_kwargs: its hyperparameters; those left out keep their defaults.
        schedule_steps: optimizer steps over which schedules of the method go from 0 to 1; None for those of the run, as
            it began: one that goes on with another `max_steps` keeps them.
        teacher: path or hub name of the teacher, or the address of one that is served (`http://…`, or
            `vllm+http://…` of an inference engine); a list of them for a method with several. "self" is the student as
            training starts (its adapter switched off under peft).
        ema: of `teacher: self`, an average of the student in its place: the part of the average that stays at each
            optimizer step, 0 ≤ ema < 1, as in 0.99. It is saved in checkpoints.
        teacher_cache: folder that `qtarget teacher cache` wrote, or a list of them: the teacher is read there, and
            none is loaded. `teacher` then names the model it must be of, or is left out.
        follow_cache: begin although `qtarget teacher cache` is still writing the cache: rows are taken in the order in
            which it is written (a random one, the same in each epoch), and a step waits for those that are not there
            yet, up to `teacher_timeout` without a writer. Needs `train_sampling_strategy: sequential`.
        teacher_top_k: likeliest tokens that are kept of a cached or served teacher or reference, at each token. The
            rest of its mass is shaped as the student's.
        teacher_timeout: seconds that a served teacher or reference may be away before training stops.
        teacher_dtype: torch dtype the teacher is loaded in, or "auto" for the checkpoint's own.
        teacher_init_kwargs: more for the teacher's `from_pretrained` (`attn_implementation`,
            `quantization_config`, ...).
        reference: "initial" for the model as training starts (its adapter switched off under peft; a snapshot
            refreshed every `refresh_every` optimizer steps for methods whose reference is an old policy), or
            a path, hub name or address.
        reference_cache: as `teacher_cache`.
        reference_dtype: torch dtype of the reference; None for the student's own (a path: the checkpoint's).
        reference_init_kwargs: more for the `from_pretrained` of a reference that is a path.
        vocabulary_parallel: cut the output layer's work over the ranks of the run: each multiplies its own rows of that
            layer for the tokens of all of them, so that its gradient in fp32 and the logits of a chunk take one rank's
            share of memory. Losses and gradients stay what they are.
        diagnostics: per-token measures that are logged as token means, beside `nll`. `trust`, `scale`
            and `top1` (logged as `mean_token_accuracy`) cost next to nothing and are averaged over every step; the
            others are measured at the steps that are logged, and throughout evaluation. What does not apply
            (`target_kl` under an improper target, `teacher_entropy` without a teacher) is left out.
        unspanned_weight: weight of the tokens that no span of `weight_spans` touches.
        columns: which column of the rows is which part of them, as in `{"prompt": "question", "completion": "answer"}`;
            None to recognise the form of the rows. The parts are listed in docs/rows.md.
        bad_rows: what becomes of rows that cannot be trained on: "refuse" stops before the first step, "skip" leaves
            them out and counts them by reason.
        learn: what is learned of conversations: "assistant" (every turn of the assistant), "last" (its last turn) or
            "all" (every token); of a prompt and its completion as texts the completion, or with "all" both. None is
            TRL's own default: every token of `messages`, and the completion behind a prompt. The command line's
            default is "assistant".
        resume_changed: names of what may differ from the run that wrote the checkpoint that training goes on from, as
            in `["max_steps"]`; anything else that differs is refused.
        resume_unsealed: go on from a checkpoint without a manifest, as transformers and TRL write them: nothing of
            what is in it can be checked.
        on_save_error: what follows a checkpoint that could not be written, because the disk is full for example:
            "stop", or "continue" without it.
        on_nonfinite: what becomes of an optimizer step whose loss or gradient is NaN or infinite: "stop" ends the run
            before the weights are touched, "skip" leaves the step out, counts it (`skipped_steps` in the log) and goes
            on.
        max_skipped_steps: how many steps of a run may be left out before it stops after all.
        allow_pickled_weights: read weights of model folders and checkpoints that are a pickle (`pytorch_model.bin`)
            too.
        greater_is_better: False by default where `metric_for_best_model` is a loss, an `nll` or a `target_kl`.
        logging_nan_inf_filter: off, where the Trainer has it on: it reads every micro-batch's loss to keep NaN out of
            the log, and here such a loss stops training.
    """

    _VALID_DICT_FIELDS = [  # noqa: RUF012  (TRL's own declaration)
        *SFTConfig._VALID_DICT_FIELDS,
        "method_kwargs",
        "teacher_init_kwargs",
        "reference_init_kwargs",
        "columns",
    ]

    method: str = field(default="target-sft", metadata={"help": "Objective, by its name in `qtarget methods`."})
    method_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Hyperparameters of the method, for example '{\"eta\": 0.5}'."}
    )
    schedule_steps: int | None = field(
        default=None, metadata={"help": "Optimizer steps that schedules of the method take; by default the run's."}
    )
    teacher: list[str] | str | None = field(
        default=None,
        metadata={"help": "Path or hub name of the teacher, 'self' for the student, or a list of several."},
    )
    ema: float | None = field(
        default=None,
        metadata={"help": "Of `teacher: self`, average the student: the part that stays at each step, such as 0.99."},
    )
    teacher_cache: list[str] | str | None = field(
        default=None, metadata={"help": "Folder of a teacher cache, or a list of several."}
    )
    follow_cache: bool = field(
        default=False, metadata={"help": "Begin while the cache is still being written, and wait for what is missing."}
    )
    teacher_top_k: int = field(
        default=64, metadata={"help": "Likeliest tokens that a cached or served teacher is asked for, at each token."}
    )
    teacher_timeout: float = field(
        default=600.0, metadata={"help": "Seconds that a served teacher may be away before training stops."}
    )
    teacher_dtype: str = field(
        default="auto", metadata={"help": "Torch dtype of the teacher, or 'auto' for its checkpoint's."}
    )
    teacher_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for the teacher's `from_pretrained`."}
    )
    reference: str | None = field(
        default="initial",
        metadata={"help": "'initial' for the model as training starts, or a path or hub name."},
    )
    reference_cache: str | None = field(default=None, metadata={"help": "Folder of a cache of the reference."})
    reference_dtype: str | None = field(
        default=None, metadata={"help": "Torch dtype of the reference; by default the student's."}
    )
    reference_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for the reference's `from_pretrained`."}
    )
    vocabulary_parallel: bool = field(
        default=False, metadata={"help": "Cut the work of the output layer over the ranks, by rows of its vocabulary."}
    )
    diagnostics: list[str] = field(
        default_factory=lambda: ["trust", "scale", "top1", "entropy", "target_kl", "teacher_entropy"],
        metadata={"help": "Per-token measures to log beside the loss and the nll."},
    )
    unspanned_weight: float = field(
        default=1.0, metadata={"help": "Weight of tokens that no span of `weight_spans` touches."}
    )
    columns: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": 'Parts of a row and the columns that hold them, for example \'{"text": "body"}\'.'},
    )
    bad_rows: Literal["refuse", "skip"] = field(
        default="refuse", metadata={"help": "What becomes of rows that cannot be trained on: 'refuse' or 'skip'."}
    )
    learn: str | None = field(
        default=None,
        metadata={"help": "What is learned of conversations: 'assistant', 'last' (its last turn) or 'all'."},
    )

    resume_changed: list[str] | None = field(
        default=None, metadata={"help": "What may differ from the run that is resumed, for example 'max_steps'."}
    )
    resume_unsealed: bool = field(
        default=False, metadata={"help": "Go on from a checkpoint that has no manifest, unchecked."}
    )
    on_save_error: Literal["stop", "continue"] = field(
        default="stop", metadata={"help": "What follows a checkpoint that cannot be written: 'stop' or 'continue'."}
    )
    on_nonfinite: Literal["stop", "skip"] = field(
        default="stop",
        metadata={"help": "What becomes of a step whose loss or gradient is not finite: 'stop' or 'skip'."},
    )
    max_skipped_steps: int = field(
        default=10, metadata={"help": "Steps of a run that may be skipped for that before it stops after all."}
    )
    allow_pickled_weights: bool = field(
        default=False, metadata={"help": "Read weights that are stored as a pickle (pytorch_model.bin) too."}
    )

    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Leave losses that are not finite out of the log; here they stop training."}
    )

    def __post_init__(self) -> None:
        if self.learn not in (None, *LEARN):
            raise ValueError(f"learn is {self.learn!r}; expected one of {', '.join(LEARN)}, as in `learn: assistant`.")
        if self.schedule_steps is not None and not (type(self.schedule_steps) is int and self.schedule_steps > 0):
            raise ValueError(
                f"schedule_steps is {self.schedule_steps!r}; expected a whole number of optimizer steps above 0, as in "
                "`schedule_steps: 1000`, or leave it out for those of the run."
            )
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(
                f"ema is {self.ema}; expected a number of 0 or more and less than 1, as in `ema: 0.99`. An average "
                "that never moves is `teacher: self` without `ema`."
            )
        if self.on_nonfinite not in ON_NONFINITE:
            raise ValueError(
                f"on_nonfinite is {self.on_nonfinite!r}; expected {' or '.join(ON_NONFINITE)}, as in "
                "`on_nonfinite: stop`."
            )
        if self.greater_is_better is None and _is_better_when_less(self.metric_for_best_model):
            self.greater_is_better = False
        join_group(self)
        super().__post_init__()
        refuse_other_losses(self)
        self.build_method()
        unknown = [name for name in self.diagnostics if name not in DIAGNOSTICS]
        if unknown:
            raise ValueError(f"diagnostics has {unknown}; expected names among {list(DIAGNOSTICS)}.")

    def to_dict(self) -> dict[str, Any]:
        """As TRL's, which hides whatever ends in `_token`; these two are no secrets and are needed to read it back."""
        return {**super().to_dict(), "eos_token": self.eos_token, "pad_token": self.pad_token}

    def build_method(self) -> qt.Method:
        """The method that `method` and `method_kwargs` name."""
        kwargs = self.method_kwargs or {}
        if not isinstance(kwargs, dict):
            raise ValueError(f"method_kwargs is {kwargs!r}; expected a mapping, as in `method_kwargs: {{eta: 0.5}}`.")
        return qt.method(self.method, **kwargs)


def _is_better_when_less(metric: str | None) -> bool:
    return metric is not None and metric.endswith(_LESS_IS_BETTER)


def refuse_other_losses(args: SFTConfig) -> None:
    """A second objective beside `method` would be ignored or would fight it: name the line to remove."""
    conflicts = {
        f"loss_type: {args.loss_type}": args.loss_type != "nll",
        f"label_smoothing_factor: {args.label_smoothing_factor}": args.label_smoothing_factor != 0,
        "use_liger_kernel: true": args.use_liger_kernel,
    }
    instead = {
        "loss_type": f"`method: {args.loss_type}` says the same",
        "label_smoothing_factor": "`method: label-smoothing` with `method_kwargs: {smoothing: "
        f"{args.label_smoothing_factor}}}` says the same",
        "use_liger_kernel": "`method` computes its loss without building logits already",
    }
    for line, given in conflicts.items():
        if given:
            reason = instead[line.partition(":")[0]]
            raise ValueError(f"`{line}` is set beside `method`. Remove that line; {reason}.")


def as_target_config(args: TrainingArguments | None) -> TargetSFTConfig:
    """The configuration itself, or one made from another of TRL's or transformers' (None: from the defaults).

    What fields of its own a subclass of theirs has stand on the result as attributes, for the callbacks that read them.
    """
    if isinstance(args, TargetSFTConfig):
        return args
    if args is None:
        return TargetSFTConfig(method="sft")
    if not isinstance(args, TrainingArguments):
        raise ValueError(f"args is a {type(args).__name__}; pass a TargetSFTConfig, as in TargetSFTConfig(output_dir).")
    if args.greater_is_better and _is_better_when_less(args.metric_for_best_model):
        raise ValueError(
            f"of {args.metric_for_best_model} less is better, and the {type(args).__name__} takes more for better, as "
            f"transformers does of all but losses; write {type(args).__name__}(greater_is_better=False)."
        )
    known = {f.name for f in fields(TargetSFTConfig) if f.init}
    values = {name: value for name, value in args.to_dict().items() if name in known}
    values |= {name: getattr(args, name) for name in known if name.endswith("_token") and hasattr(args, name)}
    values.pop("logging_nan_inf_filter", None)  # theirs is on by default, and has nothing to filter here
    config = TargetSFTConfig(**{"method": "sft", **values})
    for own in fields(args):
        if own.name not in known and not hasattr(config, own.name):
            setattr(config, own.name, getattr(args, own.name))
    return config
