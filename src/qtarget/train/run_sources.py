"""The teachers and the reference of a run: from what a caller gave to what they say of a batch."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

import qtarget as qt
from qtarget.data import EVIDENCE, Asker, TeacherView, carries_weight, check_teacher_positions, teacher_view
from qtarget.target.evidence import evidence_rows
from qtarget.teacher import SELF, EvidenceSource, ReadsAhead
from qtarget.train.build_sources import (
    Student,
    as_teachers,
    build_reference,
    build_teachers,
    causal_lm,
    check_self_teacher,
)
from qtarget.train.forward import ModelEvidence
from qtarget.train.lookup import CacheReference, check_absent_caches, check_lookups, lookup_source, name_of, with_caches
from qtarget.train.reference import Snapshot
from qtarget.train.row_mixture import sets_of
from qtarget.train.target_sft_config import TargetSFTConfig


def given_sources(teacher: Any, reference: Any, model: Any, args: TargetSFTConfig) -> tuple[tuple[Any, ...], Any]:
    """Teachers and reference as a caller gave them, or as the configuration names them, caches in their places.

    Args:
        teacher, reference: in the place of `args.teacher` and `args.reference`; None for these.
        model: the student as it was given.
    """
    teachers = as_teachers(args.teacher if teacher is None else teacher)
    check_self_teacher(teachers, args)
    own = name_of("initial", model)
    teachers = tuple(own if each == SELF and args.teacher_cache is not None else each for each in teachers)
    given = args.reference if reference is None else reference
    given = given if args.reference_cache is None else CacheReference(args.reference_cache, name_of(given, model))
    return with_caches(teachers, as_teachers(args.teacher_cache), "teacher"), given


def stand_in(method: qt.Method, reference: Any, dataset: Any) -> tuple[qt.Method, Any]:
    """The method to run and its reference: weighted rows may bring what a reference would give (iw-sft)."""
    is_weighted = bool(sets_of(dataset)) and all(map(carries_weight, sets_of(dataset)))
    if method.without_reference is None or (reference is not None and not is_weighted):
        return method, reference
    return method.without_reference, None


class RunSources(NamedTuple):
    """What a run reads beside its rows.

    Attributes:
        reference: None where the method reads none, or where the student itself is it.
        adapter_off: a context in which the student itself is the reference; None where it is not.
    """

    teachers: tuple[EvidenceSource, ...]
    reference: EvidenceSource | Snapshot | None
    adapter_off: Callable[[], AbstractContextManager] | None


def open_sources(
    teachers: Sequence[Any], reference: Any, method: qt.Method, student: Student, args: TargetSFTConfig
) -> RunSources:
    """The sources that the student is trained with, behind what was given.

    Raises:
        ValueError: one that fits neither the student nor the method.
    """
    named = {f"teacher {i}": each for i, each in enumerate(teachers)}
    check_absent_caches(method, {**named, "reference": reference}, student.vocabulary, args)
    find = partial(lookup_source, student=student, method=method, args=args)
    found = build_teachers([find(each, name) for name, each in named.items()], student, args)
    opened = build_reference(find(reference, "reference"), method, student, args)
    check_lookups(method, named_sources(found, opened), student.vocabulary)
    is_student = opened is None and reference is not None and "reference" in method.needs
    return RunSources(found, opened, student.model.disable_adapter if is_student else None)


def check_prompts_fit(
    teachers: Sequence[EvidenceSource], datasets: Mapping[str, Any], parts: Collection[str], asker: Asker
) -> None:
    """Refuse prompts of teachers' own for which a teacher in memory has too few positions.

    Args:
        datasets: prepared rows by name, or several of them by name.  parts: as in `check_teacher_positions`.

    Raises:
        UnusableRow: as `check_teacher_positions`.
    """
    models = [getattr(teacher, "model", getattr(teacher, "student", None)) for teacher in teachers]
    for name, given in datasets.items():
        for rows in given.values() if isinstance(given, Mapping) else [given]:
            for model in models:
                if isinstance(model, nn.Module):
                    check_teacher_positions(rows, name, causal_lm(model), parts, asker)


def named_sources(teachers: Sequence[EvidenceSource], reference: EvidenceSource | None) -> dict[str, EvidenceSource]:
    """By name: the teachers in their order, then the reference."""
    named: dict[str, EvidenceSource] = {f"teacher {index}": teacher for index, teacher in enumerate(teachers)}
    return named if reference is None else {**named, "reference": reference}


def reads_ahead(sources: Mapping[str, EvidenceSource]) -> dict[str, Callable]:
    """By name how the sources are read that are read when a batch is made."""
    return {name: partial(_read, name, source) for name, source in sources.items() if isinstance(source, ReadsAhead)}


def _read(name: str, source: ReadsAhead, batch: Mapping[str, Any]) -> Any:
    view = _view(name, batch)
    return source.read(batch if view is None else {**view.inputs, "labels": view.labels})


def batch_evidence(sources: Mapping[str, EvidenceSource], texts: dict, batch: dict) -> dict[str, ModelEvidence]:
    """What each source says about a batch: computed now, or read when the batch was made.

    A teacher reads its own prompts where the batch has them, and what it says of the completions' tokens is laid out
    like the batch.
    """
    found = {}
    for name, source in sources.items():
        view = _view(name, batch)
        evidence = _evidence(
            name, source, view.inputs if view else texts, view.labels if view else batch["labels"], batch
        )
        found[name] = evidence_rows(evidence, view.back) if view else evidence
    return found


def _view(name: str, batch: Mapping[str, Any]) -> TeacherView | None:
    """What a source is asked about a batch in the batch's place; the reference reads what the student does."""
    return None if name == "reference" else teacher_view(batch)


def _evidence(name: str, source: EvidenceSource, inputs: dict, labels: Tensor, batch: dict) -> ModelEvidence:
    read = batch.get(EVIDENCE, {}).get(name)
    if read is None:
        return source.evidence(inputs, labels)
    assert isinstance(source, ReadsAhead)
    return source.unpack(read, labels.device)
