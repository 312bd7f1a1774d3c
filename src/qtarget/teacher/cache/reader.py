"""What a cache holds, found by the content of documents."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm.auto import tqdm

from qtarget.teacher.cache.contents import changed_parts, keep_of
from qtarget.teacher.cache.format import (
    PER_DOCUMENT,
    SHARD,
    CacheShard,
    Manifest,
    check_stored_targets,
    excerpt,
    read_manifest,
)
from qtarget.teacher.distributions import Keep, KeptLogprobs, concatenated
from qtarget.teacher.documents import Document

_CHUNK_BYTES = 1 << 22
AGAIN = "Write the cache again with `qtarget teacher cache`: whole shards are kept."


class Index(NamedTuple):
    """Where each document is, in the order of `digests` [D] (16 bytes each): its shard, first token and tokens."""

    digests: np.ndarray
    shards: np.ndarray
    starts: np.ndarray
    counts: np.ndarray


@dataclass(eq=False)
class Cache:
    """A finished cache, from `open_cache`. It is small to pickle: a data loader's workers map the shards themselves.

    Attributes:
        keep: what was kept of each distribution.
    """

    folder: Path
    manifest: Manifest
    index: Index
    is_remote: bool = False
    _shards: dict[int, dict[str, Tensor]] = field(default_factory=dict, repr=False)

    @property
    def keep(self) -> Keep:
        return keep_of(self.manifest.parts)

    def check(self, wanted: Mapping[str, Any]) -> None:
        """Refuse a cache that has one of `wanted` otherwise; names are those of `manifest.parts`."""
        differ = changed_parts(self.manifest.parts, wanted)
        if differ:
            raise ValueError(
                f"{self.folder} is a cache of something else: {'; '.join(differ)}. Change the run back, or write a "
                "cache of it into another folder with `qtarget teacher cache`."
            )

    def missing(self, documents: Iterable[Document]) -> list[Document]:
        """Those that the cache knows nothing of."""
        documents = list(documents)
        return [one for one, place in zip(documents, self._find(documents), strict=True) if place < 0]

    def answer(self, documents: Sequence[Document]) -> KeptLogprobs:
        """What was kept about every asked token, document after document, in the dtypes it is stored in.

        Raises:
            ValueError: a document is not in the cache, or what is there is about other tokens.
        """
        places = self._find(documents)
        return concatenated([self._read(one, place) for one, place in zip(documents, places, strict=True)], self.keep.k)

    def _find(self, documents: Sequence[Document]) -> np.ndarray:
        """Index of each document, −1 where it is not there."""
        wanted = np.array([document.digest for document in documents], "S16")
        places = np.searchsorted(self.index.digests, wanted)
        found = self.index.digests[places.clip(max=len(self.index.digests) - 1)] == wanted
        return np.where(found, places, -1)

    def _read(self, document: Document, place: int) -> KeptLogprobs:
        if place < 0:
            raise ValueError(unknown(self.folder, document))
        shard, start, count = (int(column[place]) for column in self.index[1:])
        rows = {name: value[start : start + count] for name, value in self._shard(shard).items()}
        try:
            check_stored_targets(rows, document.targets, self.manifest.parts["how"], self.manifest.parts["temperature"])
        except ValueError as error:
            raise ValueError(
                f"{self.folder / self.manifest.shards[shard].file} is out of step with the rows: {error}. Delete this "
                "cache and write it again with `qtarget teacher cache`."
            ) from error
        return KeptLogprobs(*(rows[name] for name in KeptLogprobs._fields))

    def _shard(self, shard: int) -> dict[str, Tensor]:
        if shard not in self._shards:
            tensors = mapped(self.folder / self.manifest.shards[shard].file)
            self._shards[shard] = {name: value for name, value in tensors.items() if name not in PER_DOCUMENT}
        return self._shards[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}


def unknown(folder: Path, document: Document) -> str:
    return (
        f"{folder} holds nothing about a document of {len(document.ids)} tokens that begins {excerpt(document.ids)}: "
        "its rows were rendered otherwise when the cache was written (other data, tokenizer, chat template, "
        "max_length, packing or masking). Write a cache of these rows with `qtarget teacher cache`."
    )


def open_cache(folder: str | Path) -> Cache:
    """A finished cache, each byte of which was checked against its hash.

    Raises:
        ValueError: it is not finished, of another format, damaged (naming the file), or names files outside of it.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return Cache(folder, manifest, read_index(folder, manifest))


def check_files(folder: Path, manifest: Manifest) -> None:
    """Refuse shards that are missing, cut short, changed, or not in the folder itself."""
    with hashing(manifest.bytes) as bar, ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda shard: check_shard(folder, shard, bar), manifest.shards):
            pass


def hashing(size: int) -> tqdm:
    """Progress, shown where it takes more than two seconds and someone is looking."""
    return tqdm(total=size, unit="B", unit_scale=True, desc="checking the teacher cache", delay=2, disable=None)


def check_shard(folder: Path, shard: CacheShard, bar: tqdm) -> None:
    """Refuse a shard whose file is missing, cut short, changed, or not in the folder itself."""
    path = folder / str(shard.file)
    if not SHARD.fullmatch(str(shard.file)) or path.resolve().parent != folder.resolve():
        raise ValueError(
            f"{folder} names a shard {str(shard.file)!r}, which is no file of its own such as shard-00000.safetensors: "
            "its manifest was tampered with, so do not use it."
        )
    if not path.is_file():
        raise ValueError(f"{path} is missing. {AGAIN}")
    if path.stat().st_size != shard.size:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, and {shard.size:,} were written. {AGAIN}")
    found = _hash(path, bar)
    if found != shard.sha256:
        raise ValueError(
            f"{path} is damaged: its sha256 is {found[:12]}…, and {shard.sha256[:12]}… was written. {AGAIN}"
        )


def _hash(path: Path, bar: tqdm) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def mapped(path: Path) -> dict[str, Tensor]:
    """The tensors of a shard, read from disk as they are looked at."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}). {AGAIN}") from error


def read_index(folder: Path, manifest: Manifest) -> Index:
    """The documents of all shards, whose digests rise from the first shard to the last."""
    columns = [_shard_index(folder, manifest, number) for number in range(len(manifest.shards))]
    index = Index(*(np.concatenate(column) for column in zip(*columns, strict=True)))
    if not (index.digests[1:] > index.digests[:-1]).all():
        raise ValueError(f"{folder} holds a document twice or out of order. {AGAIN}")
    return index


def _shard_index(folder: Path, manifest: Manifest, number: int) -> Index:
    shard = manifest.shards[number]
    tensors = mapped(folder / shard.file)
    check_layout(folder / shard.file, shard, manifest, tensors)
    digests = np.ascontiguousarray(tensors["digests"].numpy()).reshape(-1).view("S16").copy()
    offsets = tensors["offsets"].numpy()
    shards = np.full(len(digests), number, np.int32)
    return Index(digests, shards, offsets[:-1].astype(np.int32), np.diff(offsets).astype(np.int32))


def check_layout(path: Path, shard: CacheShard, manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not those the manifest promises."""
    tokens, documents = shard.tokens, shard.documents
    flat = ("log_tail", "label_logprobs", "entropy", "target_ids")
    expected = {
        **dict.fromkeys(("ids", "logprobs"), (tokens, manifest.parts["k"])),
        **dict.fromkeys(flat, (tokens,)),
        "digests": (documents, 16),
        "offsets": (documents + 1,),
    }
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    offsets = tensors["offsets"].numpy() if found == expected else np.zeros(1)
    if found != expected or offsets[0] != 0 or offsets[-1] != tokens or (np.diff(offsets) <= 0).any():
        raise ValueError(f"{path} holds other tensors than the manifest says: {found}, expected {expected}. {AGAIN}")
