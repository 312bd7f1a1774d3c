"""Reading a cache: what was kept about documents is found by their content."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm.auto import tqdm

from qtarget.teacher.cache.contents import RAGGED, ByMass, by_mass_of, changed_parts, keep_of
from qtarget.teacher.cache.format import (
    PER_DOCUMENT,
    PER_TOKEN,
    SHARD,
    CacheShard,
    Manifest,
    check_stored_targets,
    check_targets,
    excerpt,
    read_manifest,
)
from qtarget.teacher.cache.ragged import PackedColumns, RaggedRows, padded, unpacked
from qtarget.teacher.distributions import Keep, KeptLogprobs, concatenated
from qtarget.teacher.documents import Document

_CHUNK_BYTES = 1 << 22
WRITE_AGAIN = "Write the cache again with `qtarget teacher cache`: whole shards are kept."


class Index(NamedTuple):
    """Where each of D documents is: its digest (16 bytes), shard, first token in it, number of tokens, and where its
    bytes begin and end if it is packed, `[D]` each.

    Digests rise, so that documents are found by bisection.
    """

    digests: np.ndarray
    shards: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


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

        Where as many tokens are kept as their mass asks for, slots that are empty have the id −1.

        Raises:
            ValueError: a document is not in the cache, or what is there is about other tokens.
        """
        pairs = zip(documents, self._find(documents), strict=True)
        read = [self._read(document, place) for document, place in pairs]
        ragged = [part for part in read if isinstance(part, RaggedRows)]
        return padded(ragged) if ragged else concatenated([p for p in read if isinstance(p, KeptLogprobs)], self.keep.k)

    def _find(self, documents: Sequence[Document]) -> np.ndarray:
        """The place of each document in the index, −1 for one that the cache does not hold."""
        wanted = np.array([document.digest for document in documents], "S16")
        places = np.searchsorted(self.index.digests, wanted)
        is_there = self.index.digests[places.clip(max=len(self.index.digests) - 1)] == wanted
        return np.where(is_there, places, -1)

    def _read(self, document: Document, place: int) -> KeptLogprobs | RaggedRows:
        if place < 0:
            raise ValueError(unknown_document(self.folder, document))
        shard = int(self.index.shards[place])
        try:
            return self._rows(document, place) if self.by_mass is None else self._packed_rows(document, place)
        except ValueError as error:
            raise ValueError(
                f"{self.folder / self.manifest.shards[shard].file} is out of step with the rows: {error}. Delete this "
                "cache and write it again with `qtarget teacher cache`."
            ) from error

    def _rows(self, document: Document, place: int) -> KeptLogprobs:
        shard, start, count = (int(column[place]) for column in self.index[1:4])
        rows = {name: value[start : start + count] for name, value in self._shard(shard).items()}
        check_stored_targets(rows, document.targets, self.manifest.parts["how"], self.manifest.parts["temperature"])
        return KeptLogprobs(*(rows[name] for name in KeptLogprobs._fields))

    def _packed_rows(self, document: Document, place: int) -> RaggedRows:
        shard, _, count, start, stop = (int(column[place]) for column in self.index[1:])
        content = self._shard(shard)["packed"].numpy()[start:stop]
        found = unpacked(content, count, PackedColumns.of(self.manifest.parts))
        check_targets(found.targets, document.targets)
        return found

    @cached_property
    def by_mass(self) -> ByMass | None:
        """The rule by which tokens are kept; None where as many are kept everywhere."""
        return by_mass_of(self.manifest.parts)

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
    columns = [shard_index(folder, manifest, number) for number in range(len(manifest.shards))]
    index = Index(*(np.concatenate(column) for column in zip(*columns, strict=True)))
    if not (index.digests[1:] > index.digests[:-1]).all():
        raise ValueError(f"{folder} holds a document twice or out of order. {WRITE_AGAIN}")
    return index


def shard_index(folder: Path, manifest: Manifest, number: int) -> Index:
    """Where the documents of one shard are."""
    shard = manifest.shards[number]
    tensors = map_shard(folder / shard.file)
    check_layout(folder / shard.file, shard, manifest, tensors)
    digests = np.ascontiguousarray(tensors["digests"].numpy()).reshape(-1).view("S16").copy()
    offsets = tensors["offsets"].numpy()
    shards = np.full(len(digests), number, np.int32)
    packed = tensors["packed_offsets"].numpy() if "packed_offsets" in tensors else np.zeros(len(offsets), np.int64)
    begins, ends = packed[:-1].copy(), packed[1:].copy()
    return Index(digests, shards, offsets[:-1].astype(np.int32), np.diff(offsets).astype(np.int32), begins, ends)


def check_layout(path: Path, shard: CacheShard, manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors of other names or shapes than the manifest promises."""
    tokens, shapes = shard.tokens, {name: tuple(value.shape) for name, value in tensors.items()}
    expected = _expected_shapes(shard, manifest, shapes)
    bounds = [("offsets", tokens)]
    if manifest.parts["format"] == RAGGED:
        bounds.append(("packed_offsets", shapes.get("packed", (0,))[0]))
    if shapes != expected or not all(_rise(tensors[name].numpy(), last) for name, last in bounds):
        raise ValueError(
            f"{path} holds other tensors than the manifest says: {shapes}, expected {expected}. {WRITE_AGAIN}"
        )


def _expected_shapes(shard: CacheShard, manifest: Manifest, found: Mapping[str, tuple]) -> dict[str, tuple[int, ...]]:
    """Of the tensors of a shard; bytes may be as many as there are."""
    tokens, documents = shard.tokens, shard.documents
    of_documents = {"digests": (documents, 16), "offsets": (documents + 1,)}
    if manifest.parts["format"] == RAGGED:
        size = found.get("packed", ())
        return {"packed": size if len(size) == 1 else (0,), "packed_offsets": (documents + 1,), **of_documents}
    wide = dict.fromkeys(("ids", "logprobs"), (tokens, manifest.parts["k"]))
    return {**wide, **{name: (tokens,) for name in PER_TOKEN if name not in wide}, **of_documents}


def _rise(offsets: np.ndarray, last: int) -> bool:
    """Whether offsets begin at 0, rise, and end at `last`."""
    return offsets[0] == 0 and offsets[-1] == last and bool((np.diff(offsets) > 0).all())
