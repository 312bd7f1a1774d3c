"""`qtarget teacher cache`: write what a run's teachers and reference predict at each token of its rows to disk."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from qtarget.disk.place import check_place
from qtarget.job.asked_model import AskedModel, LoadedHere, OnServer
from qtarget.job.build import check_loading, remove_if_empty
from qtarget.job.config.checked_job import Job
from qtarget.job.cost.cache_width import tokens_kept
from qtarget.job.rows.rendering import RenderedRows, render
from qtarget.job.teacher_cache_view import CacheProgress, print_part, print_summary
from qtarget.models.loading import tokenizer_of
from qtarget.models.pickled_weights import ALLOW
from qtarget.models.sharding import OVER_RANKS
from qtarget.outcomes import Refusal, stopped_by
from qtarget.teacher import (
    Document,
    Keep,
    KeptLogprobs,
    KeptSource,
    LiveModel,
    SourceKind,
    SourceName,
    check_padding,
    check_same_tokens,
    load_live_model,
    number_of_tokens,
)
from qtarget.teacher.cache import CachePart, CachePlan, Ranks, plan_cache, verify_cache, write_cache
from qtarget.teacher.cache.contents import check_by_mass
from qtarget.teacher.cache.format import is_whole_cache
from qtarget.teacher.cache.parts import WHOLE_CACHE
from qtarget.teacher.cache.same_teacher import check_same_teacher
from qtarget.teacher.cache.writer import shards_on_disk
from qtarget.teacher.served_store import open_store
from qtarget.teacher.source_name import engine_of
from qtarget.train.build_sources import as_teachers, check_self_teacher
from qtarget.train.checks import check_method
from qtarget.train.lookup import CacheReference, FutureCache, check_lookups, temperature_for, with_caches


@dataclass(frozen=True)
class ModelToCache:
    """One model to cache: what is kept of its distributions, and where.

    Attributes:
        name: "teacher 0", "teacher 1", … or "reference".
        source: its directory or hub name, or the address of a server that has it.
        folder: the cache to write.
        keep: which tokens of each distribution are kept, and at which temperature.
        dtype, init_kwargs: how it is loaded.
    """

    name: str
    source: str
    folder: Path
    keep: Keep
    dtype: str
    init_kwargs: dict[str, Any]

    @property
    def role(self) -> str:
        """ "teacher" or "reference", as keys of a configuration begin."""
        return self.name.split()[0]

    @property
    def is_served(self) -> bool:
        """Whether the source is the address of a server."""
        return SourceName.parse(self.source).kind is SourceKind.SERVER


class PreparedCaches(NamedTuple):
    """The models to cache, and the rows they are asked about, checked as far as is possible without the weights."""

    job: Job
    models: list[ModelToCache]
    rendered: RenderedRows


def prepare_caches(job: Job) -> PreparedCaches:
    """The models to cache, and the rows as the run will train on them.

    Raises:
        ValueError: no folder to write to, a model that cannot be asked, a tokenizer other than the student's, rows that
            cannot be rendered, or a run that `qtarget train` would refuse whatever the caches hold.
    """
    models = models_to_cache(job)
    check_loading(job)
    for model in models:
        check_place(model.folder, f"`{model.role}_cache: {model.folder}`")
    with remove_if_empty(job.output):
        rendered = render(job)
    for model in models:
        if model.is_served:  # its tokens are looked at when it is opened
            continue
        tokenizer = tokenizer_of(model.source, job.args.trust_remote_code)
        assert tokenizer is not None
        check_same_tokens(rendered.tokenizer, tokenizer, model.role)
        if job.cache.by_mass is not None:
            check_by_mass(job.cache.by_mass, model.keep.how, number_of_tokens(rendered.tokenizer.get_vocab()))
    return PreparedCaches(job, models, rendered)


def models_to_cache(job: Job) -> list[ModelToCache]:
    """The models for which a configuration names a folder, with what the method needs of each.

    Raises:
        ValueError: no folder, a model that cannot be asked ahead of the run, or too few tokens kept for the method.
    """
    args, method = job.args, job.method
    if args.teacher_cache is None and args.reference_cache is None:
        raise ValueError(
            "no folder for a cache is given; write `teacher_cache: folder` (or `reference_cache: folder`)."
        )
    check_self_teacher(as_teachers(args.teacher), args)
    teachers = with_caches(
        as_teachers(args.teacher), [str(folder) for folder in as_teachers(args.teacher_cache)], "teacher"
    )
    reference = args.reference if args.reference_cache is None else CacheReference(args.reference_cache, args.reference)
    check_method(method, teachers, reference, args.packing_strategy if args.packing else None)
    named = [*((f"teacher {index}", teacher) for index, teacher in enumerate(teachers)), ("reference", reference)]
    models = [_model_to_cache(job, name, cached) for name, cached in named if isinstance(cached, CacheReference)]
    future = {
        model.name: KeptSource(FutureCache(model.keep, _gives_entropy(job, model)), model.role in method.label_only)
        for model in models
    }
    try:
        check_lookups(method, future, torch.iinfo(torch.int32).max)
    except ValueError as error:
        raise ValueError(f"`cache_sampled: true`: {error}" if job.cache.sampled else str(error)) from error
    return models


def _gives_entropy(job: Job, model: ModelToCache) -> bool:
    """Whether the teacher's entropy will be known: an engine's is where every token is kept, by the student's
    tokenizer."""
    if engine_of(model.source) is None:
        return True
    tokenizer = tokenizer_of(job.model, job.args.trust_remote_code)
    return tokenizer is not None and model.keep.k >= number_of_tokens(tokenizer.get_vocab())


def _model_to_cache(job: Job, name: str, cached: CacheReference) -> ModelToCache:
    role, args = name.split()[0], job.args
    kind = None if cached.of is None else SourceName.parse(cached.of).kind
    if cached.of is None:
        raise ValueError(
            f"`{role}_cache` is written from a model that is loaded here or served, and no `{role}` is given; write "
            f"`{role}: path/or/hub-name`."
        )
    keep = Keep(tokens_kept(job, role), "sampled" if job.cache.sampled else "top", temperature_for(job.method, name))
    if kind in (SourceKind.INITIAL, SourceKind.SELF):
        if kind is SourceKind.INITIAL and job.method.refresh_every is not None:
            raise ValueError(
                f'the reference of "{job.method.name}" is the student of a few steps ago, so it cannot be written '
                "ahead; remove `reference_cache`."
            )
        init_kwargs = {"revision": job.model_args.model_revision, "trust_remote_code": args.trust_remote_code}
        of_teacher = None if args.teacher_dtype == "auto" else args.teacher_dtype
        given = args.reference_dtype if role == "reference" else of_teacher
        dtype = given or _student_dtype(job)
        return ModelToCache(name, job.model, Path(cached.folder), keep, dtype, {**init_kwargs, **_pickles(job)})
    if kind is SourceKind.SERVER:
        return ModelToCache(name, cached.of, Path(cached.folder), keep, "", {})
    init_kwargs: Any = (args.teacher_init_kwargs if role == "teacher" else args.reference_init_kwargs) or {}
    if init_kwargs.get("device_map") in OVER_RANKS:
        raise ValueError(
            f"`{role}_init_kwargs` splits the model over the ranks, and here each rank asks about rows of its own; "
            "write `device_map: auto`, and start one process."
        )
    dtype = args.teacher_dtype if role == "teacher" else args.reference_dtype or "auto"
    return ModelToCache(name, cached.of, Path(cached.folder), keep, dtype, {**init_kwargs, **_pickles(job)})


def _pickles(job: Job) -> dict[str, bool]:
    """The argument of a loader that lets weights be a pickle, where the run does."""
    return {ALLOW: True} if job.args.allow_pickled_weights else {}


def _student_dtype(job: Job) -> str:
    kwargs = job.args.model_init_kwargs
    dtype = kwargs.get("dtype") if isinstance(kwargs, dict) else None
    return str(dtype or job.model_args.dtype or "float32")


def write_caches(prepared: PreparedCaches, part: CachePart = WHOLE_CACHE) -> None:
    """Ask one model after the other, and write what each predicts. The first rank shows progress, and a table at the
    end.

    Args:
        part: of each cache, that these ranks write.

    Raises:
        Refusal: a model does not load or fit, its folder holds another cache, or another process is writing to it.
        Interruption: on Ctrl-C or SIGTERM; finished shards stay.
        OSError: the disk is full; finished shards stay.
    """
    for model in prepared.models:
        asked = open_to_cache(model, prepared.job, prepared.rendered)
        plan = plan_to_write(model, asked, prepared)
        _write_cache(model, plan, asked.keeping(plan.keep), replace(prepared.rendered.ranks, part=part))


def plan_to_write(model: ModelToCache, asked: AskedModel, prepared: PreparedCaches) -> CachePlan:
    """What the cache of a model is to hold.

    Raises:
        Refusal: what is to be kept does not fit it.
    """
    options, rendered = prepared.job.cache, prepared.rendered
    try:
        return plan_cache(
            rendered.documents(model.name),
            asked.origin(rendered.parts),
            model.keep,
            storage_dtype=options.dtype,
            shard_tokens=options.shard_tokens,
            by_mass=options.by_mass,
        )
    except ValueError as error:
        raise Refusal(str(error)) from error


def _write_cache(model: ModelToCache, plan: CachePlan, asked: AskedModel, ranks: Ranks) -> None:
    try:
        if asked.may_change:
            check_same_teacher(model.folder, plan, asked.answer)
        with CacheProgress(model.name, model.folder, plan, ranks) as progress:

            def answer(documents: Sequence[Document]) -> KeptLogprobs:
                return asked.answer(documents, progress.on_batch)

            write_cache(model.folder, plan, answer, ranks, progress.on_shard)
        if ranks.rank == 0 and is_whole_cache(model.folder):
            print_summary(verify_cache(model.folder), progress)
        elif ranks.rank == 0:
            print_part(len(shards_on_disk(model.folder, plan)), progress)
    except ValueError as error:
        raise Refusal(str(error)) from error
    except KeyboardInterrupt as stopped:
        finished = len(shards_on_disk(model.folder, plan))
        raise stopped_by(
            stopped,
            f"with {finished} of {len(plan.shards)} shards of {model.folder} finished. They stay: the same command "
            "goes on from there",
        ) from stopped


def open_to_cache(model: ModelToCache, job: Job, rendered: RenderedRows) -> AskedModel:
    """A model to cache, loaded here, or opened on its server.

    Raises:
        Refusal: it does not load, or its server cannot be asked.
        ValueError: it says something else about padded rows.
    """
    if model.is_served:
        try:
            return OnServer(open_store(model.source, model.keep, rendered.tokenizer, patience=job.args.teacher_timeout))
        except ValueError as error:
            raise Refusal(str(error)) from error
    try:
        loaded = load_live_model(
            model.source, model.role, device=job.args.device, dtype=model.dtype, init_kwargs=model.init_kwargs
        )
    except (ValueError, OSError) as error:
        raise Refusal(str(error)) from error
    except SafetensorError as error:
        raise Refusal(f"weights of {model.source} are damaged ({error}); copy them again.") from error
    head: Any = loaded.get_output_embeddings()
    live = LiveModel(loaded, min(head.weight.shape[0], number_of_tokens(rendered.tokenizer.get_vocab())))
    check_padding(live, rendered.tokenizer, model.role)
    return LoadedHere(live, model.source, model.keep, job.cache.batch_tokens)
