"""Small caches of a small teacher."""

from functools import cache
from pathlib import Path
from typing import Any

import tiny_models
import torch

from qtarget.teacher import Document, Keep, LiveModel, documents_of_rows, frozen, kept_logprobs
from qtarget.teacher.cache import CacheOrigin, CachePlan, plan_cache, write_cache

ORIGIN = CacheOrigin("tokens", "template", "max_length 64", "weights", "torch.float32", tiny_models.VOCAB)
SHARD_TOKENS = 40


@cache
def teacher() -> LiveModel:
    return LiveModel(frozen(tiny_models.tiny_model(seed=7), torch.device("cpu")))


def documents(rows: int = 24, seed: int = 0) -> list[Document]:
    return list(documents_of_rows(tiny_models.token_rows(rows, seed)))


def plan(rows: list[Document] | None = None, keep: Keep | None = None, **changes: Any) -> CachePlan:
    settings = {"shard_tokens": SHARD_TOKENS, **changes}
    return plan_cache(documents() if rows is None else rows, ORIGIN, keep or Keep(8), **settings)


def answer(planned: CachePlan):
    """What the teacher keeps to say, batch by batch."""
    return lambda documents: kept_logprobs(teacher(), documents, planned.keep, batch_tokens=64)


def written(folder: Path, planned: CachePlan | None = None, **settings: Any) -> Path:
    planned = planned or plan()
    write_cache(folder, planned, answer(planned), **settings)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the lock."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}
