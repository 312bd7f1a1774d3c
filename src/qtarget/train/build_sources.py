"""Builds a trainer's teachers and reference from what the user gave: paths, hub names or models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, is_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import qtarget as qt
from qtarget.models.causal_lm import layer_rows
from qtarget.models.loading import tokenizer_of
from qtarget.models.pickled_weights import ALLOW, refuse_pickled_weights
from qtarget.models.sharding import LAUNCHES, OverRanks, is_cut_as_read, zero_stage
from qtarget.teacher import (
    SELF,
    EvidenceSource,
    LiveModel,
    add_adapter,
    check_padding,
    check_same_tokens,
    frozen_copy,
    load_live_model,
    number_of_tokens,
    shares_base,
)
from qtarget.train.reference import Snapshot
from qtarget.train.self_teacher import AdapterOff, StudentAverage
from qtarget.train.target_sft_config import TargetSFTConfig

SourceLike = str | PreTrainedModel | EvidenceSource


@dataclass(frozen=True)
class Student:
    """The model under training, which teachers and reference must fit.

    Attributes:
        model: as trained, peft wrapper included.  base: the causal language model in it.
    """

    model: Any
    base: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device

    @property
    def vocabulary(self) -> int:
        """Rows of the output layer."""
        return _rows(self.base)


def causal_lm(model: Any) -> PreTrainedModel:
    """The causal language model inside a peft wrapper, or the model itself."""
    return model.get_base_model() if is_peft_model(model) else model


def as_teachers(given: Any) -> tuple[SourceLike, ...]:
    """One teacher, several or none, as a tuple."""
    if given is None:
        return ()
    return tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)


def build_teachers(given: Sequence[SourceLike], student: Student, args: TargetSFTConfig) -> tuple[EvidenceSource, ...]:
    """Frozen teachers that share the student's tokens; of the student itself, one that follows it where `ema` says."""
    return tuple(
        _self_teacher(student, args)
        if isinstance(each, str) and each == SELF
        else _source(each, "teacher", student, args.teacher_dtype, args.teacher_init_kwargs, args.allow_pickled_weights)
        for each in given
    )


def check_self_teacher(teachers: Sequence[Any], args: TargetSFTConfig) -> None:
    """Refuse settings of a teacher that is the student itself where they mean nothing.

    Args:
        teachers: as given; caches stand as what they are of.

    Raises:
        ValueError: names the line.
    """
    is_self = any(isinstance(each, str) and each == SELF for each in teachers)
    if args.ema is None:
        return
    if args.teacher_cache is not None:
        raise ValueError(
            f"`ema: {args.ema}` averages the student while it is trained, so what it will say cannot be in a cache; "
            "remove `ema`, for the student as it is at first, or `teacher_cache`."
        )
    if not is_self:
        raise ValueError(
            f"`ema: {args.ema}` averages the student, and the teacher is another model, or there is none; write "
            "`teacher: self` beside it, or remove `ema`."
        )


def _self_teacher(student: Student, args: TargetSFTConfig) -> EvidenceSource:
    """The student as its own teacher: an average, the base under its adapter, or a copy of it as it is now."""
    _check_not_loaded(args)
    if is_cut_as_read(student.base):
        raise ValueError(
            "`teacher: self` is not supported for a student that transformers cuts over ranks (`distributed_config`); "
            "write `teacher: path/or/hub-name` of the initial model."
        )
    over_ranks, is_peft = _launched_sharded(), is_peft_model(student.model)
    if is_peft:
        _check_adapter(student.model, "teacher", is_average=args.ema is not None)
    if args.ema is None and not is_peft:
        dtype = None if args.teacher_dtype == "auto" else args.teacher_dtype
        return LiveModel(frozen_copy(student.base, student.device, dtype, over_ranks))
    if args.teacher_dtype != "auto":
        raise ValueError(
            f"`teacher_dtype: {args.teacher_dtype}` is set, and this `teacher: self` computes with the student's own "
            "weights; remove `teacher_dtype`."
        )
    if args.ema is None:
        return AdapterOff(student.model)
    if over_ranks is not None:
        raise ValueError(
            f"`ema: {args.ema}` averages whole weights, and {LAUNCHES[over_ranks]} cuts them over ranks, which is not "
            "supported; remove `ema` (the teacher is then the student as it is at first), or train without "
            f"{LAUNCHES[over_ranks]}."
        )
    return StudentAverage(student.model, args.ema)


def _check_not_loaded(args: TargetSFTConfig) -> None:
    if args.teacher_init_kwargs:
        raise ValueError(
            "`teacher_init_kwargs` says how a teacher is loaded, and `teacher: self` is the student, which is there "
            "already; remove `teacher_init_kwargs`."
        )


def build_reference(
    given: SourceLike | None, method: qt.Method, student: Student, args: TargetSFTConfig
) -> EvidenceSource | Snapshot | None:
    """The reference a method reads; None where it reads none, or where the student with its adapter off is it."""
    if "reference" not in method.needs or given is None:
        return None
    if given != "initial":
        dtype, loading = args.reference_dtype or "auto", args.reference_init_kwargs
        return _source(given, "reference", student, dtype, loading, args.allow_pickled_weights)
    if method.refresh_every is not None:
        _check_snapshot(method)
        return Snapshot(student.model, method.refresh_every)
    if is_peft_model(student.model):
        _check_adapter(student.model, "reference")
        return None
    return LiveModel(frozen_copy(student.base, student.device, args.reference_dtype, _launched_sharded()))


def _check_snapshot(method: qt.Method) -> None:
    """Refuse copies of weights that ZeRO-3 keeps in parts: FSDP2's parts can be swapped in place, those cannot."""
    if _launched_sharded() == "zero3":
        raise ValueError(
            f'"{method.name}" keeps a snapshot of the student, which is not supported under DeepSpeed ZeRO stage 3; '
            "launch with FSDP2, as `accelerate launch --config_file examples/scale/fsdp2.yaml` does."
        )


def _source(
    given: SourceLike, name: str, student: Student, dtype: str, init_kwargs: Any, pickles: bool
) -> EvidenceSource:
    if not isinstance(given, str | PreTrainedModel):
        return given
    if given is student.base:
        raise ValueError(
            f"The {name} is the very model that is trained, and would be frozen with it; load it a second "
            "time, as in "
            f"`{name}=AutoModelForCausalLM.from_pretrained(...)`."
        )
    if isinstance(given, str) and not pickles:
        refuse_pickled_weights(given)
    tokenizer = tokenizer_of(given, bool((init_kwargs or {}).get("trust_remote_code")))
    if tokenizer is not None:
        check_same_tokens(student.tokenizer, tokenizer, name)
    if isinstance(given, str) and dtype == "auto" and not init_kwargs and _has_base_of(given, student):
        return add_adapter(given, student.model, _shared_vocabulary(student, student.base, tokenizer))
    loading = {**(init_kwargs or {}), ALLOW: pickles}
    model = load_live_model(
        given, name, device=student.device, dtype=dtype, init_kwargs=loading, over_ranks=_launched_sharded()
    )
    live = LiveModel(model, _shared_vocabulary(student, model, tokenizer))
    check_padding(live, tokenizer or student.tokenizer, name)
    return live


def _shared_vocabulary(student: Student, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> int:
    """Leading rows of the model's head that stand for the student's tokens; without a tokenizer, all that both have."""
    rows = min(student.vocabulary, _rows(model))
    return rows if tokenizer is None else min(rows, number_of_tokens(tokenizer.get_vocab()))


def _rows(model: PreTrainedModel) -> int:
    layer: Any = model.get_output_embeddings()
    return layer_rows(layer.weight)


def _launched_sharded() -> OverRanks | None:
    """Cut frozen models over ranks where the launch cuts the student: under FSDP, and ZeRO stage 3."""
    state = AcceleratorState()
    if state.distributed_type == DistributedType.FSDP:
        return "fsdp"
    return "zero3" if zero_stage(state) == 3 else None


def _has_base_of(source: str, student: Student) -> bool:
    """Whether `source` is an adapter on the base that the student's adapter is trained on."""
    return bool(is_peft_model(student.model)) and shares_base(source, student.model)


ALTER_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to start a LoRA adapter that change the base's weights, by how their names begin."""


def _check_adapter(model: Any, name: str, is_average: bool = False) -> None:
    """Refuse an adapter that cannot be switched off, or whose base is not the initial model, which an average needs not
    be.
    """
    if model.active_peft_config.is_prompt_learning:
        raise ValueError(
            f"With {model.active_peft_config.peft_type.value} the prompt itself is the adapter, so it cannot "
            f"be switched off for the {name}; write `{name}: path/or/hub-name` of the initial model."
        )
    start = getattr(model.active_peft_config, "init_lora_weights", None)
    if str(start).startswith(ALTER_THE_BASE) and not is_average:
        raise ValueError(
            f"An adapter with init_lora_weights={start!r} takes a part out of the base's weights, so the base without "
            f"it is not the initial model, and cannot be the {name}; write `{name}: path/or/hub-name` of the initial "
            "model, or init_lora_weights=True."
        )
