"""Reading a cache: what was kept about documents is found by their content."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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
WRITE_AGAIN = "Write the cache again with `qtarget teacher cache`: whole shards are kept."


class Index(NamedTuple):
    """Where each of D documents is: its digest (16 bytes), shard, first token in it, and number of tokens, `[D]` each.

    Digests rise, so that documents are found by bisection.
    """

    digests: np.ndarray
    shards: np.ndarray
    starts: np.ndarray
    counts: np.ndarray


@dataclass(eq=False)
class Cache:
    """A finished cache, from `open_cache`. A pickle of it is small: a data loader's workers map the shards themselves.

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

    @property
    def has_entropy(self) -> bool:
        """Whether the entropy it holds is the teacher's, and no lower bound of it."""
        return "entropy" not in self.manifest.parts

    def check(self, wanted: Mapping[str, Any]) -> None:
        """Refuse a cache of which a part differs from `wanted`; the names are those of `manifest.parts`."""
        differ = changed_parts(self.manifest.parts, wanted)
        if differ:
            raise ValueError(
                f"{self.folder} is a cache of something else: {'; '.join(differ)}. Change the run back, or write a "
                "cache of it into another folder with `qtarget teacher cache`."
            )

    def missing(self, documents: Iterable[Document]) -> list[Document]:
        """The documents about which the cache holds nothing."""
        documents = list(documents)
        places = self._find(documents)
        return [document for document, place in zip(documents, places, strict=True) if place < 0]

    def answer(self, documents: Sequence[Document]) -> KeptLogprobs:
        """What was kept about every asked token, document after document, in the dtypes it is stored in.

        Raises:
            ValueError: a document is not in the cache, or what is there is about other tokens.
        """
        pairs = zip(documents, self._find(documents), strict=True)
        return concatenated([self._read(document, place) for document, place in pairs], self.keep.k)

    def _find(self, documents: Sequence[Document]) -> np.ndarray:
        """The place of each document in the index, −1 for one that the cache does not hold."""
        wanted = np.array([document.digest for document in documents], "S16")
        places = np.searchsorted(self.index.digests, wanted)
        is_there = self.index.digests[places.clip(max=len(self.index.digests) - 1)] == wanted
        return np.where(is_there, places, -1)

    def _read(self, document: Document, place: int) -> KeptLogprobs:
        if place < 0:
            raise ValueError(unknown_document(self.folder, document))
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
            tensors = map_shard(self.folder / self.manifest.shards[shard].file)
            self._shards[shard] = {name: value for name, value in tensors.items() if name not in PER_DOCUMENT}
        return self._shards[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}


def unknown_document(folder: Path, document: Document) -> str:
    """Why a cache may not hold a document, and what to do, in words."""
    return (
        f"{folder} holds nothing about a document of {len(document.ids)} tokens that begins {excerpt(document.ids)}: "
        "its rows were rendered otherwise when the cache was written (other data, tokenizer, chat template, "
        "max_length, packing or masking). Write a cache of these rows with `qtarget teacher cache`."
    )


def open_cache(folder: str | Path) -> Cache:
    """Open a finished cache, after checking each byte of it against its hash.

    Raises:
        ValueError: it is not finished, of another format, damaged (naming the file), or names files outside of it.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return Cache(folder, manifest, read_index(folder, manifest))


def check_files(folder: Path, manifest: Manifest) -> None:
    """Refuse shards that are missing, cut short, changed, or not in the folder itself."""
    with hash_progress(manifest.bytes) as bar, ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda shard: check_shard(folder, shard, bar), manifest.shards):
            pass


def hash_progress(size: int) -> tqdm:
    """A progress bar over bytes that are hashed, shown in a terminal once it has taken two seconds."""
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
        raise ValueError(f"{path} is missing. {WRITE_AGAIN}")
    if path.stat().st_size != shard.size:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, and {shard.size:,} were written. {WRITE_AGAIN}")
    sha256 = _hash(path, bar)
    if sha256 != shard.sha256:
        raise ValueError(
            f"{path} is damaged: its sha256 is {sha256[:12]}…, and {shard.sha256[:12]}… was written. {WRITE_AGAIN}"
        )


def _hash(path: Path, bar: tqdm) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def map_shard(path: Path) -> dict[str, Tensor]:
    """The tensors of a shard, memory-mapped: the system reads from disk what is used of them."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}). {WRITE_AGAIN}") from error


def read_index(folder: Path, manifest: Manifest) -> Index:
    """The index of all documents; ValueError where digests do not rise from the first shard to the last."""
    columns = [_shard_index(folder, manifest, number) for number in range(len(manifest.shards))]
    index = Index(*(np.concatenate(column) for column in zip(*columns, strict=True)))
    if not (index.digests[1:] > index.digests[:-1]).all():
        raise ValueError(f"{folder} holds a document twice or out of order. {WRITE_AGAIN}")
    return index


def _shard_index(folder: Path, manifest: Manifest, number: int) -> Index:
    shard = manifest.shards[number]
    tensors = map_shard(folder / shard.file)
    check_layout(folder / shard.file, shard, manifest, tensors)
    digests = np.ascontiguousarray(tensors["digests"].numpy()).reshape(-1).view("S16").copy()
    offsets = tensors["offsets"].numpy()
    shards = np.full(len(digests), number, np.int32)
    return Index(digests, shards, offsets[:-1].astype(np.int32), np.diff(offsets).astype(np.int32))


def check_layout(path: Path, shard: CacheShard, manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors of other names or shapes than the manifest promises."""
    tokens, documents = shard.tokens, shard.documents
    flat = ("log_tail", "label_logprobs", "entropy", "target_ids")
    expected = {
        **dict.fromkeys(("ids", "logprobs"), (tokens, manifest.parts["k"])),
        **dict.fromkeys(flat, (tokens,)),
        "digests": (documents, 16),
        "offsets": (documents + 1,),
    }
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    offsets = tensors["offsets"].numpy() if shapes == expected else np.zeros(1)
    if shapes != expected or offsets[0] != 0 or offsets[-1] != tokens or (np.diff(offsets) <= 0).any():
        raise ValueError(
            f"{path} holds other tensors than the manifest says: {shapes}, expected {expected}. {WRITE_AGAIN}"
        )
