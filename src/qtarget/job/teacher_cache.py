"""What a run's teachers and reference say about its rows, written to disk ahead of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from qtarget.job.build import removed_if_empty
from qtarget.job.config.job import Job
from qtarget.job.rows.rendering import RenderedRows, render
from qtarget.job.teacher_cache_view import CacheProgress, summary
from qtarget.models.identity import weights_identity
from qtarget.models.loading import tokenizer_of
from qtarget.models.sharding import OVER_RANKS
from qtarget.outcomes import Interrupted, Refused
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
    kept_logprobs,
    load_live_model,
    number_of_tokens,
)
from qtarget.teacher.cache import CacheOrigin, CachePlan, plan_cache, verify_cache, write_cache
from qtarget.teacher.cache.contents import bytes_per_token
from qtarget.teacher.cache.writer import shards_on_disk
from qtarget.train.build_sources import as_teachers
from qtarget.train.checks import check_method
from qtarget.train.lookup import CacheReference, check_lookups, temperature_for, with_caches


@dataclass(frozen=True)
class ModelToCache:
    """A model whose word is to be written down.

    Attributes:
        name: "teacher i" or "reference".  source: its directory or hub name.
        keep: what is kept of each of its distributions.
        dtype, init_kwargs: how it is loaded.
    """

    name: str
    source: str
    folder: Path
    keep: Keep
    dtype: str
    init_kwargs: dict[str, Any]


class PreparedCache(NamedTuple):
    """Everything that could be refused has been, but for what only the models show."""

    job: Job
    asked: list[ModelToCache]
    rendered: RenderedRows


@dataclass
class Promise:
    """Answers to come: enough to see whether a method can use them."""

    keep: Keep
    is_remote: bool = False

    def answer(self, documents: Sequence[Document]) -> KeptLogprobs:
        raise AssertionError("nothing is asked of a promise")


def prepare_cache(job: Job) -> PreparedCache:
    """The models to ask, and the rows to ask them about.

    Raises:
        ValueError: nothing to write, a model that cannot be asked, tokens that differ, or rows that cannot be rendered.
    """
    asked = asked_by(job)
    with removed_if_empty(job.output):
        rendered = render(job)
    for one in asked:
        tokenizer = tokenizer_of(one.source)
        assert tokenizer is not None
        check_same_tokens(rendered.tokenizer, tokenizer, one.name.split()[0])
    return PreparedCache(job, asked, rendered)


def asked_by(job: Job) -> list[ModelToCache]:
    """The models whose caches a configuration names."""
    args, method = job.args, job.method
    if args.teacher_cache is None and args.reference_cache is None:
        raise ValueError("nothing says where to write; write `teacher_cache: folder` (or `reference_cache: folder`).")
    teachers = with_caches(
        as_teachers(args.teacher), [str(folder) for folder in as_teachers(args.teacher_cache)], "teacher"
    )
    reference = args.reference if args.reference_cache is None else CacheReference(args.reference_cache, args.reference)
    check_method(method, teachers, reference, args.packing_strategy if args.packing else None)
    named = [*((f"teacher {index}", given) for index, given in enumerate(teachers)), ("reference", reference)]
    found = [_asked(job, name, given) for name, given in named if isinstance(given, CacheReference)]
    promised = {one.name: KeptSource(Promise(one.keep), _is_label_only(job, one.name)) for one in found}
    try:
        check_lookups(method, promised, torch.iinfo(torch.int32).max)
    except ValueError as error:
        raise ValueError(f"`cache_sampled: true`: {error}" if job.cache.sampled else str(error)) from error
    return found


def _asked(job: Job, name: str, given: CacheReference) -> ModelToCache:
    role, args = name.split()[0], job.args
    kind = None if given.of is None else SourceName.parse(given.of).kind
    if given.of is None or kind is SourceKind.SERVER:
        raise ValueError(
            f"`{role}_cache` is to be written, and `{role}` is {given.of}; name the model to ask: "
            f"`{role}: path/or/hub-name`."
        )
    keep = Keep(_tokens_kept(job, name), "sampled" if job.cache.sampled else "top", temperature_for(job.method, name))
    if kind is SourceKind.INITIAL:
        if job.method.refresh_every is not None:
            raise ValueError(
                f'the reference of "{job.method.name}" is the student of a few steps ago, so it cannot be written '
                "ahead; remove `reference_cache`."
            )
        own = {"revision": job.model_args.model_revision, "trust_remote_code": args.trust_remote_code}
        return ModelToCache(name, job.model, Path(given.folder), keep, args.reference_dtype or _student_dtype(job), own)
    init_kwargs: Any = (args.teacher_init_kwargs if role == "teacher" else args.reference_init_kwargs) or {}
    if init_kwargs.get("device_map") in OVER_RANKS:
        raise ValueError(
            f"`{role}_init_kwargs` cuts the model over the ranks, and here each rank asks about rows of its own; write "
            "`device_map: auto`, in one process."
        )
    dtype = args.teacher_dtype if role == "teacher" else args.reference_dtype or "auto"
    return ModelToCache(name, given.of, Path(given.folder), keep, dtype, init_kwargs)


def _student_dtype(job: Job) -> str:
    kwargs = job.args.model_init_kwargs
    written = kwargs.get("dtype") if isinstance(kwargs, dict) else None
    return str(written or job.model_args.dtype or "float32")


def _is_label_only(job: Job, name: str) -> bool:
    return name.split()[0] in job.method.label_only


def _tokens_kept(job: Job, name: str) -> int:
    """K: none where the method reads the label only, what fits the budget, or `teacher_top_k`."""
    budget = job.cache.bytes_per_token
    if _is_label_only(job, name):
        return 0
    if budget is None:
        return job.args.teacher_top_k
    least, each = (bytes_per_token(k, job.cache.dtype) - bytes_per_token(0, job.cache.dtype) for k in (0, 1))
    found = (budget - bytes_per_token(0, job.cache.dtype) - least) // each
    if found < 1:
        raise ValueError(
            f"`cache_bytes_per_token: {budget}` leaves no room for a token; expected at least "
            f"{bytes_per_token(1, job.cache.dtype)}, and {bytes_per_token(64, job.cache.dtype)} keep 64."
        )
    return found


def write(prepared: PreparedCache) -> None:
    """Ask model after model, and write what each says. On the first rank: progress, and a table at the end.

    Raises:
        Refused: the folder is of something else, or another process is writing to it.
        Interrupted: on Ctrl-C; finished shards stay.
        OSError: the disk is full; finished shards stay.
    """
    job, rendered = prepared.job, prepared.rendered
    for one in prepared.asked:
        live = _loaded(one, job, rendered)
        plan = plan_cache(
            rendered.documents,
            _origin(one, live, rendered),
            one.keep,
            storage_dtype=job.cache.dtype,
            shard_tokens=job.cache.shard_tokens,
        )
        _written(one, plan, live, prepared)


def _loaded(one: ModelToCache, job: Job, rendered: RenderedRows) -> LiveModel:
    role = one.name.split()[0]
    try:
        model = load_live_model(one.source, role, device=job.args.device, dtype=one.dtype, init_kwargs=one.init_kwargs)
    except (ValueError, OSError) as error:
        raise Refused(str(error)) from error
    except SafetensorError as error:
        raise Refused(f"weights of {one.source} are damaged ({error}); copy them again.") from error
    head: Any = model.get_output_embeddings()
    live = LiveModel(model, min(head.weight.shape[0], number_of_tokens(rendered.tokenizer.get_vocab())))
    check_padding(live, rendered.tokenizer, role)
    return live


def _origin(one: ModelToCache, live: LiveModel, rendered: RenderedRows) -> CacheOrigin:
    quantised = getattr(live.model.config, "quantization_config", None)
    dtype = str(live.model.dtype).removeprefix("torch.")
    assert live.vocab is not None
    return CacheOrigin(
        **rendered.parts,
        teacher=weights_identity(one.source),
        compute_dtype=f"{dtype}, {quantised.quant_method.value}" if quantised is not None else dtype,
        vocabulary=live.vocab,
    )


def _written(one: ModelToCache, plan: CachePlan, live: LiveModel, prepared: PreparedCache) -> None:
    ranks, batch_tokens = prepared.rendered.ranks, prepared.job.cache.batch_tokens
    try:
        with CacheProgress(one.name, one.folder, plan, ranks) as progress:

            def answer(documents: Sequence[Document]) -> KeptLogprobs:
                return kept_logprobs(live, documents, plan.keep, batch_tokens, progress.on_batch)

            write_cache(one.folder, plan, answer, ranks, progress.on_shard)
        if ranks.rank == 0:
            summary(verify_cache(one.folder), progress)
    except ValueError as error:
        raise Refused(str(error)) from error
    except KeyboardInterrupt as stopped:
        done = len(shards_on_disk(one.folder, plan))
        raise Interrupted(
            f"stopped: {done} of {len(plan.shards)} shards of {one.folder} are finished and stay; the same command "
            "goes on from there."
        ) from stopped
