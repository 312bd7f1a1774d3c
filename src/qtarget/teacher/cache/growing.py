"""Reading a cache while it is written: a run begins on the shards that are there, and waits for each that is not.

The plan says what the cache will be, and a file beside it which documents each shard will hold; both are bound by the
plan's key, which is that of the finished cache. So a run that reads it so is the same run as one that reads it later.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qtarget.disk.files import read_json_object
from qtarget.teacher.cache.contents import key_of
from qtarget.teacher.cache.format import (
    DOCUMENTS,
    PLAN,
    PLAN_KEYS,
    PLAN_REMEDY,
    REMEDY,
    CacheShard,
    Manifest,
    check_format,
    is_whole_cache,
    shard_name,
    sidecar_name,
)
from qtarget.teacher.cache.parts import writer_of
from qtarget.teacher.cache.reader import WRITE_AGAIN, Cache, Index, check_shard, hash_progress, open_cache, shard_index
from qtarget.teacher.distributions import KeptLogprobs
from qtarget.teacher.documents import Document
from qtarget.teacher.served.transport import TeacherUnavailableError

POLL_S, SAY_S = 1.0, 60.0
"""Seconds between looks for a shard, and between lines that say that it is waited for."""
_LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class GrowingCache(Cache):
    """A cache that is being written, from `follow_cache`. It answers as `Cache` does, and waits where it must.

    Attributes:
        patience: seconds that nobody may be writing while something is waited for.
    """

    patience: float = 600.0

    def answer(self, documents: Sequence[Document]) -> KeptLogprobs:
        """As `Cache.answer`.

        Raises:
            ValueError: as there, or a shard is of another plan.
            TeacherUnavailableError: nobody was writing for longer than `patience`.
        """
        for shard in sorted({int(self.index.shards[place]) for place in self._find(documents) if place >= 0}):
            self._wait_for(shard)
        return super().answer(documents)

    def _wait_for(self, shard: int) -> None:
        """Wait until a shard is there. A writer that this machine does not see is known by what it writes."""
        alone = speaks = time.monotonic()
        there = self._there()
        while not self._arrived(shard):
            now, writer, before = time.monotonic(), writer_of(self.folder), there
            there = self._there()
            if writer is not None or there != before:
                alone = now
            if now - alone > self.patience:
                raise TeacherUnavailableError(self._given_up(shard))
            if now >= speaks:
                speaks = now + SAY_S
                _LOG.warning("%s", self._waiting(shard, writer))
            time.sleep(min(POLL_S, self.patience / 4 + 0.01))

    def _arrived(self, shard: int) -> bool:
        """Whether a shard is there; if so it is checked, once, and its documents can be found."""
        planned = self.manifest.shards[shard]
        if planned.size:
            return True
        if not (self.folder / sidecar_name(planned.file)).is_file():
            return False
        content = read_json_object(self.folder / sidecar_name(planned.file), REMEDY)
        try:
            found = CacheShard(**content)
        except TypeError as error:
            raise ValueError(
                f"{sidecar_name(planned.file)} in {self.folder} is damaged ({error}). {WRITE_AGAIN}"
            ) from error
        if replace(found, sha256="", size=0) != planned:
            raise ValueError(f"{self.folder / planned.file} is of another plan than {PLAN}. {WRITE_AGAIN}")
        with hash_progress(found.size) as bar:
            check_shard(self.folder, found, bar)
        self._take(shard, found)
        return True

    def _take(self, shard: int, found: CacheShard) -> None:
        """Note where a shard's documents are, after a check that they are the ones that were planned."""
        shards = list(self.manifest.shards)
        shards[shard] = found
        manifest = replace(self.manifest, shards=tuple(shards))
        own, arrived = self.index.shards == shard, shard_index(self.folder, manifest, shard)
        if not np.array_equal(self.index.digests[own], arrived.digests):
            raise ValueError(f"{self.folder / found.file} is about other documents than were planned. {WRITE_AGAIN}")
        for name in ("starts", "counts", "begins", "ends"):
            getattr(self.index, name)[own] = getattr(arrived, name)
        self.manifest = manifest

    def _there(self) -> int:
        return sum((self.folder / sidecar_name(shard.file)).is_file() for shard in self.manifest.shards)

    def _done(self) -> str:
        return f"{self._there()} of {len(self.manifest.shards)} shards are there"

    def _waiting(self, shard: int, writer: str | None) -> str:
        who = f"which {writer} is writing" if writer else f"which nobody is writing (for up to {self.patience:g} s)"
        return f"Waiting for {shard_name(shard)} of {self.folder}, {who}: {self._done()}."

    def _given_up(self, shard: int) -> str:
        return (
            f"{self.folder} is not finished and nobody has been writing to it for {self.patience:g} s: {self._done()}, "
            f"and {shard_name(shard)} is needed. Start the command that was writing it again (`qtarget teacher cache "
            "config.yaml`); it goes on from there."
        )


def follow_cache(folder: str | Path, patience: float = 600.0) -> Cache:
    """Open a cache that is finished, or that is being written.

    Args:
        patience: seconds that nobody may be writing while something is waited for.

    Raises:
        ValueError: there is no cache, or one of another format; or it is damaged.
        TeacherUnavailableError: it was begun without the list of its documents, and nobody writes one.
    """
    folder = Path(folder)
    if is_whole_cache(folder) or not (folder / PLAN).is_file():
        return open_cache(folder)
    plan = read_json_object(folder / PLAN, PLAN_REMEDY, PLAN_KEYS)
    try:
        parts, shards = dict(plan["parts"]), plan["shards"]
        check_format(folder / PLAN, parts)
        counts = [(int(each["documents"]), int(each["tokens"])) for each in shards]
        key = key_of(parts)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / PLAN} is damaged ({error!r}); {PLAN_REMEDY}.") from error
    if key != plan["key"]:
        raise ValueError(f"{folder / PLAN} is damaged (its parts do not give its key); {PLAN_REMEDY}.")
    digests = _planned_digests(folder, parts["rows"], sum(documents for documents, _ in counts))
    planned = (CacheShard(shard_name(i), "", 0, *count, key) for i, count in enumerate(counts))
    numbers = np.repeat(np.arange(len(counts)), [documents for documents, _ in counts])
    unknown = [np.zeros(len(digests), dtype) for dtype in (np.int32, np.int32, np.int64, np.int64)]
    index = Index(digests, numbers.astype(np.int32), *unknown)
    return GrowingCache(folder, Manifest(parts, tuple(planned)), index, patience=patience)


def _planned_digests(folder: Path, rows: str, count: int) -> np.ndarray:
    """The digests of all documents of a plan, which give the hash that it has of its rows."""
    path = folder / DOCUMENTS
    content = path.read_bytes() if path.is_file() else b""
    if len(content) != 16 * count or hashlib.sha256(content).hexdigest() != rows:
        raise TeacherUnavailableError(
            f"{path} does not say which documents will be in this cache (it was begun by an earlier version, or is "
            "damaged). Start the command that writes it (`qtarget teacher cache config.yaml`) first; it makes it anew."
        )
    return np.frombuffer(content, "S16").copy()
