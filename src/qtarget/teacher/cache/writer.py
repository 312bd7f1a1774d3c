"""Writing a cache shard by shard: a run that was killed goes on with the next one, and several ranks share the work.

Ranks are processes of one group, which wait for one another. Parts are groups that do not; see `parts`.
"""

import errno
import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from safetensors.torch import save

from qtarget.disk.files import file_digest, is_draft, read_json_object, replace_file
from qtarget.disk.held_folders import HOLDER, LOCK, check_not_replaced, held_folder
from qtarget.disk.one_writer import locked_for_a_moment, one_writer
from qtarget.disk.os_errors import DISK_FULL, REASONS, FullDiskError
from qtarget.disk.sizes import in_bytes
from qtarget.teacher.cache.contents import CachePlan, changed_parts, key_of, tokens_in
from qtarget.teacher.cache.format import (
    DOCUMENTS,
    MANIFEST,
    PLAN,
    PLAN_KEYS,
    PLAN_REMEDY,
    REMEDY,
    CacheShard,
    manifest_json,
    shard_name,
    shard_tensors,
    sidecar_name,
    to_json,
)
from qtarget.teacher.cache.parts import PART_FOLDER, WHOLE_CACHE, CachePart, check_no_parts, check_same_parts
from qtarget.teacher.cache.some_rows import SOME_ROWS, some_rows
from qtarget.teacher.distributions import KeptLogprobs
from qtarget.teacher.documents import Document

_OWN_FILES = {LOCK, HOLDER}
PLAN_S = 30.0
"""Seconds that a part waits for the cache's lock, which other parts hold while they compare the plan."""
Answer = Callable[[Sequence[Document]], KeptLogprobs]


def _alone() -> None:
    """The barrier of a single process."""


@dataclass(frozen=True)
class Ranks:
    """Which of the processes that write a cache together this one is. Of the shards of a part, which may be the whole,
    rank i % ranks writes the ith.

    Attributes:
        barrier: waits for all ranks, as `accelerator.wait_for_everyone` does.
        part: the part of the cache that these ranks write; others, which are not waited for, write the others.
    """

    rank: int = 0
    ranks: int = 1
    barrier: Callable[[], None] = _alone
    part: CachePart = WHOLE_CACHE

    def share_of(self, shards: int) -> range:
        """Which shards this rank writes, of as many as there are."""
        number, of = self.part.number, self.part.of
        return range(number - 1 + of * self.rank, shards, of * self.ranks)

    def part_of(self, shards: int) -> range:
        """Which shards all ranks write."""
        return replace(self, rank=0, ranks=1).share_of(shards)


def write_cache(
    folder: Path,
    plan: CachePlan,
    answer: Answer,
    ranks: Ranks | None = None,
    on_shard: Callable[[CacheShard, bool], None] | None = None,
) -> None:
    """Write the shards that a cache lacks, then its manifest: of a part its own shards, and the manifest where they
    were the last.

    Args:
        answer: gets what is to be kept, as `lambda documents: kept_logprobs(model, documents, plan.keep)` does.
        on_shard: called with each shard of this rank, and whether an earlier run had finished it.

    Raises:
        ValueError: another process is writing, or the folder is of another cache or of something else; or it was
            removed or replaced meanwhile.
        OSError: the disk is full; what is finished stays.
    """
    ranks = ranks or Ranks()
    with _full_disk_explained(folder, plan), ExitStack() as stack:
        if ranks.rank == 0:
            stack.enter_context(_locked_folder(folder, plan, ranks.part))
        ranks.barrier()
        stack.enter_context(held_folder(folder))  # by the first rank, for all
        _RankWriter(folder, plan, answer, on_shard or (lambda shard, was_there: None)).write(ranks)
        ranks.barrier()
        if ranks.rank == 0:
            _finish(folder, plan, ranks.part)
        ranks.barrier()


@contextmanager
def _locked_folder(folder: Path, plan: CachePlan, part: CachePart) -> Iterator[None]:
    """Lock the folder, or a part of the cache in it, with the plan there."""
    folder.mkdir(parents=True, exist_ok=True)
    _check_folder(folder)
    if part == WHOLE_CACHE:
        with one_writer(folder, partial(check_no_parts, folder)):
            _write_plan(folder, plan)
            yield
        return
    with one_writer(folder / part.folder):
        with locked_for_a_moment(folder, PLAN_S):
            check_same_parts(folder, part)
            _write_plan(folder, plan)
        _remove_drafts_of(folder, Ranks(part=part).share_of(len(plan.shards)))
        yield


def _remove_drafts_of(folder: Path, shards: range) -> None:
    """Delete what killed writers left unfinished of some shards."""
    for path in (path for index in shards for path in folder.glob(f".shard-{index:05d}.*")):
        if is_draft(path):
            path.unlink(missing_ok=True)


def _write_plan(folder: Path, plan: CachePlan) -> None:
    """Write the plan and what goes with it, or compare it."""
    if (folder / PLAN).exists():
        _check_plan(folder, plan)
    else:
        shards = [{"documents": len(shard), "tokens": tokens_in(shard)} for shard in plan.shards]
        replace_file(folder / PLAN, to_json({"key": plan.key, "parts": plan.parts, "shards": shards}))
    _write_digests(folder, plan)
    if not (folder / SOME_ROWS).exists():
        replace_file(folder / SOME_ROWS, some_rows(plan.shards))


def _write_digests(folder: Path, plan: CachePlan) -> None:
    """Write down which documents the shards will hold, for a run that begins before they are all there."""
    content = b"".join(document.digest for shard in plan.shards for document in shard)
    if not (folder / DOCUMENTS).is_file() or (folder / DOCUMENTS).read_bytes() != content:
        replace_file(folder / DOCUMENTS, content)


def _check_folder(folder: Path) -> None:
    names = {path.name for path in folder.iterdir() if not is_draft(path)} - _OWN_FILES
    names = {name for name in names if not PART_FOLDER.fullmatch(name)}
    if names and PLAN not in names:
        raise ValueError(
            f"{folder} holds {sorted(names)[0]} and no {PLAN}, so it is no teacher cache; name a folder that is "
            "new or empty."
        )


def _check_plan(folder: Path, plan: CachePlan) -> None:
    written = read_json_object(folder / PLAN, PLAN_REMEDY, PLAN_KEYS).get("parts")
    parts = written if isinstance(written, dict) else {}
    if key_of(parts) != plan.key:
        differ = (
            "; ".join(changed_parts(parts, {**dict.fromkeys(parts), **plan.parts}))
            or "it was written by another version"
        )
        raise ValueError(
            f"{folder} is the cache of something else, as its {PLAN} says ({differ}). Name another folder, or "
            "delete this one."
        )


@dataclass
class _RankWriter:
    """Writes the shards of one rank: while one goes to disk, the model is asked about the next."""

    folder: Path
    plan: CachePlan
    answer: Answer
    on_shard: Callable[[CacheShard, bool], None]

    def write(self, ranks: Ranks) -> None:
        with ThreadPoolExecutor(1) as disk:
            before: Future | None = None
            for index in ranks.share_of(len(self.plan.shards)):
                shard = finished_shard(self.folder, self.plan, index)
                if shard:
                    self.on_shard(shard, True)
                    continue
                kept = self.answer(self.plan.shards[index])
                self._report(before)
                before = disk.submit(self._store, index, kept)
            self._report(before)

    def _store(self, index: int, kept: KeptLogprobs) -> CacheShard:
        documents, name = self.plan.shards[index], shard_name(index)
        content = save(shard_tensors(documents, kept, self.plan.parts))
        sha256 = hashlib.sha256(content).hexdigest()
        shard = CacheShard(name, sha256, len(content), len(documents), tokens_in(documents), self.plan.key)
        check_not_replaced(self.folder)
        (self.folder / MANIFEST).unlink(missing_ok=True)  # from here on the cache is unfinished again
        replace_file(self.folder / name, content)
        replace_file(self.folder / sidecar_name(name), to_json(asdict(shard)))
        return shard

    def _report(self, storing: "Future[CacheShard] | None") -> None:
        """Wait for a shard to be on disk, and report it."""
        if storing is not None:
            self.on_shard(storing.result(), False)


@contextmanager
def _full_disk_explained(folder: Path, plan: CachePlan) -> Iterator[None]:
    """Turn the error of a full disk into one that says how many shards are finished and how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise FullDiskError(_full_disk(folder, plan, error)) from error
        raise


def shards_on_disk(folder: Path, plan: CachePlan) -> list[Path]:
    """The files of the shards that are finished, by any rank."""
    paths = [folder / shard_name(index) for index in range(len(plan.shards))]
    return [path for path in paths if path.with_name(sidecar_name(path.name)).exists() and path.exists()]


def _full_disk(folder: Path, plan: CachePlan, error: OSError) -> str:
    done = shards_on_disk(folder, plan)
    missing, most = plan.bytes - sum(path.stat().st_size for path in done), "" if plan.by_mass is None else "at most "
    return (
        f"{error.filename or folder} could not be written: {REASONS[error.errno or errno.ENOSPC]}. {len(done)} of "
        f"{len(plan.shards)} shards are finished and stay, and the others need {most}{in_bytes(missing)} more. Make "
        "room, and start the same command again; it goes on from there."
    )


def finished_shard(folder: Path, plan: CachePlan, index: int) -> CacheShard | None:
    """A shard that an earlier run of the same plan wrote, if it is whole."""
    path = folder / shard_name(index)
    documents = plan.shards[index]
    try:
        shard = CacheShard(**read_json_object(folder / sidecar_name(path.name), REMEDY))
        promised = CacheShard(
            path.name, shard.sha256, path.stat().st_size, len(documents), tokens_in(documents), plan.key
        )
        return shard if shard == promised and file_digest(path) == shard.sha256 else None
    except (OSError, ValueError, TypeError):
        return None


def _finish(folder: Path, plan: CachePlan, part: CachePart) -> None:
    """Write the manifest; of a part, where every other part's shards are whole."""
    if part != WHOLE_CACHE and not _is_written(folder, plan):
        return
    names = [sidecar_name(shard_name(index)) for index in range(len(plan.shards))]
    content = manifest_json(plan.parts, [CacheShard(**read_json_object(folder / name, REMEDY)) for name in names])
    if not (folder / MANIFEST).is_file() or (folder / MANIFEST).read_bytes() != content:
        replace_file(folder / MANIFEST, content)


def _is_written(folder: Path, plan: CachePlan) -> bool:
    """Whether all shards are there, by whomever, and whole."""
    shards = range(len(plan.shards))
    return len(shards_on_disk(folder, plan)) == len(shards) and all(finished_shard(folder, plan, i) for i in shards)
