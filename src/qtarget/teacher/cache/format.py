"""The files of a cache: plan, shards, manifest.

    plan.json                  written first: the key's parts and how documents are cut into shards
    documents.bin              the digests of all documents, 16 bytes each, in the order in which shards hold them
    rows.json                  token ids of the first documents, to ask a model about them again (`some_rows`)
    shard-00000.safetensors    what was kept about the documents of a shard, which are in the order of their digests
    shard-00000.json           its sidecar, written after it: its size and sha256
    manifest.json              written last: the plan and all shards

Tensors of a shard of format 1, for its N tokens and D documents: `ids` [N, K] int32, `logprobs` [N, K] float16 or
float32, `log_tail` [N] and `label_logprobs` [N] float32, `entropy` [N] float16, `target_ids` [N] int32, `digests`
[D, 16] uint8, `offsets` [D + 1] int64. In float16 a token takes 14 + 6·K bytes (398 at K = 64), and a document 24.

Of format 2, where as many tokens are kept as their mass asks for: `packed` uint8, the bytes of each document as
`ragged` writes them, `packed_offsets` [D + 1] int64, where they begin, and `digests` and `offsets` as above.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qtarget.disk.files import digested, json_text, read_json_object
from qtarget.teacher.cache.contents import CACHE_DTYPES, FIXED, RAGGED, by_mass_of, keep_of, key_of
from qtarget.teacher.cache.ragged import cut_by_mass, packed_tensors
from qtarget.teacher.distributions import KeptLogprobs
from qtarget.teacher.documents import Document

PLAN, DOCUMENTS, MANIFEST = "plan.json", "documents.bin", "manifest.json"
SHARD = re.compile(r"shard-\d{5,9}\.safetensors", re.ASCII)
PER_DOCUMENT = {"digests", "offsets"}
PER_TOKEN = ("ids", "logprobs", "log_tail", "label_logprobs", "entropy", "target_ids")
PLAN_KEYS = ("key", "parts", "shards")
"""Of plan and manifest."""
REMEDY = "write it anew with `qtarget teacher cache`"
PLAN_REMEDY = "delete this cache, and write it anew with `qtarget teacher cache`"
"""What to do about a damaged manifest, and about a damaged plan, without which no shard can be trusted."""


@dataclass(frozen=True)
class CacheShard:
    """A finished shard. `size` is in bytes; `key` is that of the cache to which the shard belongs."""

    file: str
    sha256: str
    size: int
    documents: int
    tokens: int
    key: str


@dataclass(frozen=True)
class Manifest:
    """A finished cache: the parts of its plan, and its shards."""

    parts: dict[str, Any]
    shards: tuple[CacheShard, ...]

    @property
    def tokens(self) -> int:
        return sum(shard.tokens for shard in self.shards)

    @property
    def documents(self) -> int:
        return sum(shard.documents for shard in self.shards)

    @property
    def bytes(self) -> int:
        return sum(shard.size for shard in self.shards)


def shard_name(index: int) -> str:
    """The file of a shard's tensors."""
    return f"shard-{index:05d}.safetensors"


def sidecar_name(shard: str) -> str:
    """The file beside a shard that says how large it is and what its sha256 is."""
    return shard.removesuffix(".safetensors") + ".json"


def shard_tensors(documents: Sequence[Document], kept: KeptLogprobs, parts: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a shard, by name; see the head of this file.

    Raises:
        ValueError: what was kept is about other tokens.
    """
    counts = [int(document.asked.sum()) for document in documents]
    offsets = np.cumsum([0, *counts], dtype=np.int64)
    digests = np.frombuffer(b"".join(d.digest for d in documents), np.uint8).reshape(-1, 16).copy()
    of_documents = {"digests": torch.from_numpy(digests), "offsets": torch.from_numpy(offsets)}
    targets = np.concatenate([document.targets for document in documents])
    rows = {
        "ids": kept.ids.int(),
        "logprobs": kept.logprobs.to(CACHE_DTYPES[parts["storage_dtype"]]),
        "log_tail": kept.log_tail.float(),
        "label_logprobs": kept.label_logprobs.float(),
        "entropy": kept.entropy.half(),
        "target_ids": torch.from_numpy(targets),
    }
    check_stored_targets(rows, targets, parts["how"], parts["temperature"])
    by_mass = by_mass_of(parts)
    if by_mass is None:
        return rows | of_documents
    return packed_tensors(cut_by_mass(kept, targets, by_mass), offsets, parts) | of_documents


def check_stored_targets(rows: Mapping[str, Tensor], targets: np.ndarray, how: str, temperature: float) -> None:
    """Refuse rows of a shard that are about other tokens than `targets`: a cache out of step by even one token."""
    ids = rows["ids"].numpy()
    check_targets(rows["target_ids"].numpy(), targets)
    if how == "sampled" or not ids.shape[1]:
        return
    where = np.flatnonzero(ids == targets[:, None])
    if len(where) != len(targets) or (where // ids.shape[1] != np.arange(len(targets))).any():
        raise ValueError("the observed token is not among the tokens kept, where it always is")
    if temperature != 1:  # label_logprobs are of the teacher itself
        return
    kept, label = rows["logprobs"].numpy().reshape(-1)[where].astype(np.float32), rows["label_logprobs"].numpy()
    with np.errstate(invalid="ignore"):  # −inf is equal to itself
        near = np.abs(kept - label) <= 1e-3 * np.minimum(np.abs(kept), np.abs(label)) + 1e-5
    if not (near | (kept == label)).all():
        raise ValueError("the log-probability of the observed token is not the one among the tokens kept")


def check_targets(stored: np.ndarray, targets: np.ndarray) -> None:
    """Refuse rows about other tokens than those that are wanted."""
    if len(stored) != len(targets) or (stored != targets).any():
        raise ValueError(f"it is about the tokens {excerpt(stored)}, and the rows have {excerpt(targets)}")


def excerpt(ids: Any) -> str:
    """The first twelve token ids, for errors."""
    shown = ", ".join(str(int(token)) for token in ids[:12])
    return f"[{shown}{', …' if len(ids) > 12 else ''}]"


def to_json(value: Mapping[str, Any]) -> bytes:
    """JSON as all files of a cache have it, with its own sha256; the same value gives the same bytes."""
    return (json_text(digested(value), indent=1, ensure_ascii=True) + "\n").encode()


def is_cache(folder: Path) -> bool:
    """Whether a folder holds a teacher cache, be it finished or begun. A sealed model has a manifest of its own."""
    is_model = any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
    return (folder / PLAN).is_file() or ((folder / MANIFEST).is_file() and not is_model)


def is_whole_cache(folder: Path) -> bool:
    """Whether a folder holds a cache whose writing ended."""
    return is_cache(folder) and (folder / MANIFEST).is_file()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished cache.

    Raises:
        ValueError: no cache, one that is not finished, one of another format, or a damaged manifest.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(_no_manifest(folder))
    content = read_json_object(path, REMEDY)
    check_format(path, content.get("parts"))
    try:
        manifest = Manifest(dict(content["parts"]), tuple(CacheShard(**shard) for shard in content["shards"]))
        keys = {content["key"], key_of(manifest.parts), *(shard.key for shard in manifest.shards)}
        _ = keep_of(manifest.parts), manifest.parts["vocabulary"], CACHE_DTYPES[manifest.parts["storage_dtype"]]
        _ = by_mass_of(manifest.parts)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); {REMEDY}.") from error
    if len(keys) > 1 or not manifest.shards or content.keys() - set(PLAN_KEYS):
        raise ValueError(f"{path} is damaged (its parts do not give its key); {REMEDY}.")
    return manifest


def check_format(path: Path, parts: Any) -> None:
    """Refuse parts that another version of qtarget wrote, in a format that this one does not know."""
    version = parts.get("format") if isinstance(parts, dict) else None
    if isinstance(version, int) and version not in (FIXED, RAGGED):
        raise ValueError(
            f"{path} is of format {version}, and this version of qtarget reads formats {FIXED} and {RAGGED}; write the "
            "cache anew with `qtarget teacher cache`."
        )


def manifest_json(plan_parts: dict[str, Any], shards: Sequence[CacheShard]) -> bytes:
    """The manifest of a finished cache: what it is of, its key, and size and hash of every shard."""
    return to_json({"key": key_of(plan_parts), "parts": plan_parts, "shards": [asdict(shard) for shard in shards]})


def _no_manifest(folder: Path) -> str:
    plan = folder / PLAN
    if not plan.is_file():
        return (
            f"{folder} is no teacher cache: it has no {MANIFEST}. Write one with `qtarget teacher cache config.yaml`."
        )
    content = read_json_object(plan, PLAN_REMEDY, PLAN_KEYS)
    check_format(plan, content.get("parts"))
    shards = content.get("shards", [])
    done = sum((folder / sidecar_name(shard_name(i))).is_file() for i in range(len(shards)))
    return (
        f"{folder} is not finished: {done} of {len(shards)} shards are written, and no {MANIFEST}. Start the command "
        "that was writing it again (`qtarget teacher cache config.yaml`); it goes on from there. A run that begins on "
        "what there is, and waits for the rest, has `follow_cache: true`."
    )
