"""Builds a trainer's teachers and reference from what the user gave: paths, hub names or models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, is_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import qtarget as qt
from qtarget.models.loading import tokenizer_of
from qtarget.models.pickled_weights import ALLOW, refuse_pickled_weights
from qtarget.models.sharding import OverRanks
from qtarget.teacher import (
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
    """Frozen teachers that share the student's tokens."""
    return tuple(
        _source(each, "teacher", student, args.teacher_dtype, args.teacher_init_kwargs, args.allow_pickled_weights)
        for each in given
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
        return Snapshot(student.model, method.refresh_every)
    if is_peft_model(student.model):
        _check_adapter(student.model)
        return None
    return LiveModel(frozen_copy(student.base, student.device, args.reference_dtype, _launched_sharded()))


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
    return layer.weight.shape[0]


def _launched_sharded() -> OverRanks | None:
    """Cut frozen models over ranks where the launch cuts the student: under FSDP."""
    return "fsdp" if AcceleratorState().distributed_type == DistributedType.FSDP else None


def _has_base_of(source: str, student: Student) -> bool:
    """Whether `source` is an adapter on the base that the student's adapter is trained on."""
    return bool(is_peft_model(student.model)) and shares_base(source, student.model)


def _check_adapter(model: Any) -> None:
    if model.active_peft_config.is_prompt_learning:
        raise ValueError(
            f"With {model.active_peft_config.peft_type.value} the prompt itself is the adapter, so it cannot "
            "be switched off for "
            "the reference; write `reference: path/or/hub-name` of the initial model."
        )
