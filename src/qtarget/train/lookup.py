"""Teachers and references read from caches on disk or from servers, checked against the run that reads them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

import qtarget as qt
from qtarget.data import TEACHER_IDS
from qtarget.models.identity import template_identity, tokenizer_identity, weights_identity
from qtarget.target.evidence import CallInputs
from qtarget.target.kept_tokens import check_kept_tokens, temperature_for
from qtarget.teacher import (
    Document,
    EvidenceSource,
    Keep,
    KeptLogprobs,
    KeptSource,
    SourceKind,
    SourceName,
    documents_of_rows,
)
from qtarget.teacher.cache import Cache, follow_cache, open_cache
from qtarget.teacher.cache.contents import changed_parts
from qtarget.teacher.cache.format import excerpt, is_cache
from qtarget.teacher.served_store import open_store
from qtarget.train.build_sources import Student
from qtarget.train.target_sft_config import TargetSFTConfig


class CacheReference(NamedTuple):
    """A cache, and the model it must be of (None: whichever it is of)."""

    folder: str
    of: str | None


@dataclass
class FutureCache:
    """Stands for a cache that is not written yet, where a method is checked against what the cache will hold."""

    keep: Keep
    has_entropy: bool
    is_remote: bool = False

    def answer(self, documents: Sequence[Document]) -> KeptLogprobs:
        raise AssertionError("a cache that is not written yet was read")


def with_caches(models: Sequence[Any], caches: Sequence[Any], key: str) -> tuple[Any, ...]:
    """Each model's cache in its place.

    Args:
        models: as given, or none, where the caches stand alone.  key: "teacher" or "reference".
    """
    if not caches:
        return tuple(models)
    if models and len(models) != len(caches):
        raise ValueError(
            f"`{key}_cache` names {len(caches)} folder(s) and `{key}` {len(models)} model(s); write one cache for each "
            f"model, in the same order, or leave `{key}` out."
        )
    named = models or [None] * len(caches)
    return tuple(CacheReference(folder, name_of(model, None)) for folder, model in zip(caches, named, strict=True))


def name_of(reference: Any, model: Any) -> str | None:
    """The name of the model a cached reference must be of: the student's own where it is the initial one."""
    given = model if reference == "initial" else reference
    if given is None or isinstance(given, str):
        return given
    return getattr(given, "name_or_path", None) or None


def rendering(args: TargetSFTConfig, tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> dict[str, str]:
    """What decides how rows become token ids, as parts of a cache's key."""
    names = ("max_length", "truncation_mode", "packing", "packing_strategy", "completion_only_loss")
    cuts = {name: getattr(args, name) for name in (*names, "assistant_only_loss", "eval_packing")}
    if args.learn is not None:  # None: as caches were keyed before there was a choice
        cuts["learn"] = args.learn
    return {
        "tokenizer": tokenizer_identity(tokenizer),
        "chat_template": template_identity(chat_template or tokenizer.chat_template),
        "truncation": json.dumps(cuts),
    }


def lookup_source(given: Any, name: str, student: Student, method: qt.Method, args: TargetSFTConfig) -> Any:
    """The source behind a cache or a server's address; any other teacher or reference as it was given.

    Args:
        name: "teacher i" or "reference".
    """
    label_only = name.split()[0] in method.label_only
    if isinstance(given, CacheReference):
        return cached_source(given, name, student, label_only, args)
    kind = SourceName.parse(given).kind if isinstance(given, str) else None
    if kind is SourceKind.CACHE:
        raise ValueError(f"{given} is a teacher cache, and no model; write `{name.split()[0]}_cache: {given}`.")
    if kind is SourceKind.SERVER:
        keep = Keep(0 if label_only else args.teacher_top_k, temperature=temperature_for(method, name))
        served = open_store(given, keep, student.tokenizer, patience=args.teacher_timeout)
        _check_rows(given, served.vocab, student)
        return KeptSource(served, label_only)
    return given


def check_absent_caches(method: qt.Method, given: Mapping[str, Any], vocab: int, args: TargetSFTConfig) -> None:
    """Refuse a method that no cache of `teacher_top_k` tokens would serve, where a cache is named and none is there.

    Args:
        given: what stands for each source, by name.  vocab: rows of the student's output layer.

    Raises:
        ValueError: says what the method needs.
    """
    cached = {name: Path(each.folder) for name, each in given.items() if isinstance(each, CacheReference)}
    absent = {name: folder for name, folder in cached.items() if not is_cache(folder)}
    future: dict[str, Any] = dict(given)
    for name in absent:
        keep = Keep(args.teacher_top_k, temperature=temperature_for(method, name))
        future[name] = KeptSource(FutureCache(keep, has_entropy=True), name.split()[0] in method.label_only)
    try:
        check_lookups(method, future if absent else {}, vocab)
    except ValueError as error:
        folders = " and ".join(map(str, absent.values()))
        raise ValueError(
            f"{folders} is no teacher cache, and one of {args.teacher_top_k} tokens would not do: {error}"
        ) from error


def cached_source(
    given: CacheReference, name: str, student: Student, label_only: bool, args: TargetSFTConfig
) -> KeptSource:
    """A cache as a source, after a check that it is of the student's tokenizer and of the model it should be of."""
    cache = follow_cache(given.folder, args.teacher_timeout) if args.follow_cache else open_cache(given.folder)
    wanted: dict[str, Any] = {"tokenizer": tokenizer_identity(student.tokenizer)}
    if given.of is not None and SourceName.parse(given.of).kind is not SourceKind.SERVER:  # which may be gone by now
        wanted["teacher"] = weights_identity(given.of)
    cache.check(wanted)
    _check_rows(given.folder, cache.manifest.parts["vocabulary"], student)
    if not (label_only or cache.keep.k):
        raise ValueError(
            f"{given.folder} keeps the label's log-probability alone, and the method reads the whole {name}; write a "
            "cache with `teacher_top_k: 64`."
        )
    return KeptSource(cache, label_only)


def _check_rows(source: str, tokens: int, student: Student) -> None:
    """Refuse a source with a larger vocabulary than the student's output layer."""
    rows = student.vocabulary
    if tokens > rows:
        raise ValueError(
            f"{source} has a vocabulary of {tokens} tokens, and the model's output layer has {rows} rows; resize the "
            "model's embeddings to its tokenizer, or choose a teacher of its family."
        )


def check_lookups(method: qt.Method, sources: Mapping[str, EvidenceSource], vocab: int) -> None:
    """Refuse sources that keep too few tokens for the method's target, before the first step.

    Args:
        vocab: rows of the student's output layer.
    """
    forms = {name: _form_of_evidence(source) for name, source in sources.items()}
    reference = forms.pop("reference", None)
    check_kept_tokens(method, CallInputs(tuple(forms.values()), reference, None, None), vocab)


def _form_of_evidence(source: EvidenceSource) -> qt.Sparse | qt.LabelOnly:
    """Evidence about no token at all, in the form that the source will bring: the check reads the form alone."""
    if not isinstance(source, KeptSource) or source.label_only:
        return qt.LabelOnly(torch.zeros(0))
    nothing = {name: torch.zeros(0) for name in ("logprobs", "log_tail", "entropy")}
    found = source.unpack({**nothing, "ids": torch.zeros(0, source.store.keep.k)}, torch.device("cpu"))
    assert isinstance(found, qt.Sparse)
    return found


def check_coverage(
    sources: Mapping[str, EvidenceSource], datasets: Mapping[str, Any], rendered: Mapping[str, str]
) -> None:
    """Refuse a run with rows that a cache does not hold, and say what was different when it was written.

    Args:
        datasets: prepared rows by name; streams are not looked at ahead of time.
        rendered: from `rendering`.
    """
    kept = {name: source.store for name, source in sources.items() if isinstance(source, KeptSource)}
    caches = {name: answers for name, answers in kept.items() if isinstance(answers, Cache)}
    for name, rows in datasets.items() if caches else ():
        for reader, cache in caches.items() if isinstance(rows, Dataset) else ():
            documents = list(documents_read(reader, rows.with_format("numpy")))
            if missing := cache.missing(documents):
                raise ValueError(_uncovered(cache, name, missing, len(documents), rendered))


def in_order_of_caches(rows: Dataset, sources: Mapping[str, EvidenceSource]) -> Dataset:
    """Training rows in the order in which a cache of them is written, which is a random one: that of hashes. It is
    the same however far the cache is.

    Raises:
        ValueError: no teacher or reference is a cache, or the rows have an order of their own.
    """
    if not isinstance(rows, Dataset):
        raise ValueError("`follow_cache: true` needs one set of training rows that is read before; remove the line.")
    kept = {name: source.store for name, source in sources.items() if isinstance(source, KeptSource)}
    reader = next((name for name, store in kept.items() if isinstance(store, Cache)), None)
    if reader is None:
        raise ValueError(
            "`follow_cache: true` begins a run while its teacher's cache is being written, and no cache is given; "
            "write `teacher_cache: folder`, or remove the line."
        )
    plain = rows.with_format("numpy")
    firsts = [next((each.digest for each in documents_read(reader, [row])), b"") for row in plain]
    return rows.select(sorted(range(len(firsts)), key=firsts.__getitem__))


def documents_read(reader: str, rows: Any) -> Iterator[Document]:
    """The documents of prepared rows as a teacher ("teacher i") or the reference ("reference") reads them."""
    return documents_of_rows(rows, None if reader == "reference" else TEACHER_IDS)


_OTHER_ROWS = (
    "the rows, or what the teacher is asked in the place of their prompts (`teacher_prompt`, `privileged_context`), "
    "are others"
)


def _uncovered(cache: Cache, name: str, missing: list[Document], total: int, rendered: Mapping[str, str]) -> str:
    differ = changed_parts(cache.manifest.parts, rendered)
    why = f"rows are rendered otherwise now ({'; '.join(differ)})" if differ else _OTHER_ROWS
    return (
        f"{cache.folder} holds nothing about {len(missing)} of the {total} documents of the {name} data set; the first "
        f"begins with the tokens {excerpt(missing[0].ids)}. It seems that {why}. Write a cache of these rows into "
        "another folder: `qtarget teacher cache config.yaml --teacher-cache FOLDER`."
    )
