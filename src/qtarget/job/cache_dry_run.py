"""`qtarget teacher cache --dry-run`: what the caches of a run take and whether they pay, before they are written."""

from contextlib import suppress
from typing import Any, NamedTuple

from transformers import AutoConfig

from qtarget.disk.sizes import in_bytes
from qtarget.fused.memory import free_bytes
from qtarget.job.cost.cache_cost import CacheCost, CountedRows, cache_cost
from qtarget.job.cost.disk_use import free_on_disk
from qtarget.job.cost.run_memory import weight_bytes
from qtarget.job.cost.teacher_speed import ROWS_OF_SERVER, ROWS_TIMED, timed_answer
from qtarget.job.teacher_cache import ModelToCache, PreparedCaches, open_to_cache, plan_to_write
from qtarget.outcomes import Refusal
from qtarget.teacher.cache.captured import CapturedMass
from qtarget.teacher.cache.ragged import packed_bytes

FORMULA = "seconds = tokens read / (tokens a second of the model)"


class TeacherPilot(NamedTuple):
    """What asking the real model about a few rows showed.

    Attributes:
        speed: tokens of text a second.
        documents: how many it was asked about.
        device: where it computed.
        vocabulary: tokens that its distribution is over.
        warning: that K tokens hold little of it; None where they hold enough, or draws or the label alone are kept.
        bytes_per_token: what would be stored for each token of those documents; None unless tokens are kept by mass.
    """

    speed: float
    documents: int
    device: str
    vocabulary: int
    warning: str | None
    bytes_per_token: float | None


class CacheDryRun(NamedTuple):
    """What the cache of one model takes.

    Attributes:
        folder, source: where it would be written, and of which model.
        cost: counted, not measured.
        free: bytes on that disk; None where nothing says so.
        pilot: None where the model could not be asked, and then `unknown` says why.
    """

    folder: str
    source: str
    cost: CacheCost
    storage_dtype: str
    free: int | None
    pilot: TeacherPilot | None
    unknown: str | None

    @property
    def is_bound(self) -> bool:
        """Whether bytes are the most that it can be: tokens are kept by their mass, and the model was not asked."""
        return self.cost.at_most and self.pilot is None

    @property
    def bytes_per_token(self) -> float:
        """Of what is stored at each learned token: counted, or as a few rows of the model take."""
        measured = None if self.pilot is None else self.pilot.bytes_per_token
        return self.cost.bytes_per_token if measured is None else measured

    @property
    def bytes(self) -> int:
        """Of all that is stored, likewise."""
        return self.cost.bytes + round(self.cost.tokens * (self.bytes_per_token - self.cost.bytes_per_token))

    @property
    def seconds(self) -> float | None:
        """Of writing, on one device like that of the pilot."""
        return None if self.pilot is None else self.cost.read / self.pilot.speed

    @property
    def live_seconds(self) -> float | None:
        """Of the model's forward passes beside one run, if it is not cached."""
        return None if self.pilot is None else self.cost.read_live / self.pilot.speed

    def as_json(self) -> dict[str, Any]:
        plain = {name: value for name, value in self._asdict().items() if name not in ("cost", "pilot")}
        return {
            **plain,
            **self.cost.as_json(),
            "bytes": self.bytes,
            "bytes_per_token": self.bytes_per_token,
            "at_most": self.is_bound,
            "seconds": self.seconds,
            "live_seconds": self.live_seconds,
            "formula": FORMULA,
            "pilot": None if self.pilot is None else self.pilot._asdict(),
        }


def dry_run_caches(prepared: PreparedCaches) -> list[CacheDryRun]:
    """What each cache takes; nothing is written. Each model is asked about a few rows, if it loads and fits."""
    return [_dry_run(model, prepared) for model in prepared.models]


def _dry_run(model: ModelToCache, prepared: PreparedCaches) -> CacheDryRun:
    job, rendered = prepared.job, prepared.rendered
    held_out = rendered.sets[1] if len(rendered.sets) > 1 else None
    cost = cache_cost(job, model.name, CountedRows(rendered.sets[0], held_out, rendered.tokenizer))
    pilot, unknown = None, _does_not_fit(model, prepared)
    if unknown is None:
        try:
            pilot = _ask(model, prepared)
        except (Refusal, RuntimeError) as error:  # RuntimeError: of torch, as where memory runs out after all
            unknown = str(error)
    return CacheDryRun(
        str(model.folder), model.source, cost, job.cache.dtype, free_on_disk(model.folder), pilot, unknown,
    )  # fmt: skip


def _does_not_fit(model: ModelToCache, prepared: PreparedCaches) -> str | None:
    """Why a model is not loaded: its weights are larger than what is free. None too where its size is not known."""
    args = prepared.job.args
    if model.is_served:
        return None
    if model.init_kwargs.get("device_map") or any("load_in" in name or "quant" in name for name in model.init_kwargs):
        return None
    with suppress(OSError, ValueError, KeyError):  # an adapter's folder, say
        config = AutoConfig.from_pretrained(model.source, trust_remote_code=args.trust_remote_code)
        needed = weight_bytes((model.source, config), model.dtype, args.trust_remote_code)
        free = free_bytes(args.device)
        if free is not None and needed > free:
            return f"its weights are {in_bytes(needed)}, and {in_bytes(free)} of memory are free"
    return None


def _ask(model: ModelToCache, prepared: PreparedCaches) -> TeacherPilot:
    """Load the model, and time it; what it says first, before its memory is warm, does not count."""
    asked = open_to_cache(model, prepared.job, prepared.rendered)
    plan = plan_to_write(model, asked, prepared)
    asked = asked.keeping(plan.keep)
    rows = ROWS_OF_SERVER if model.is_served else ROWS_TIMED
    documents = [document for shard in plan.shards for document in shard][:rows]
    answers, speed = timed_answer(asked.answer, documents)
    captured = CapturedMass.of(answers, asked.vocabulary, plan.by_mass) if plan.keep.how == "top" else None
    warning = None if captured is None else captured.warning(f"What would be written to {model.folder}")
    size = None if plan.by_mass is None else packed_bytes(answers, documents, plan.parts)
    return TeacherPilot(speed, len(documents), asked.place, asked.vocabulary, warning, size)
