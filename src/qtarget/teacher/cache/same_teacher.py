"""Whether the model behind a server is still the one that a begun cache was written from."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from qtarget.teacher.cache.contents import CachePlan
from qtarget.teacher.cache.reader import map_shard
from qtarget.teacher.cache.verify import stored_rows
from qtarget.teacher.cache.writer import finished_shard
from qtarget.teacher.distributions import SAME_MODEL, KeptLogprobs
from qtarget.teacher.documents import Document


def check_same_teacher(folder: Path, plan: CachePlan, answer: Callable[[Sequence[Document]], KeptLogprobs]) -> None:
    """Ask a server again about the first document of the first finished shard, where there is one.

    Raises:
        ValueError: it says something else, so another model is there under the same name.
    """
    found = ((finished_shard(folder, plan, index), documents) for index, documents in enumerate(plan.shards))
    shard, documents = next(((shard, documents) for shard, documents in found if shard is not None), (None, ()))
    if shard is None:
        return
    now = answer(documents[:1]).label_logprobs
    before = next(stored_rows(map_shard(folder / shard.file), shard, plan.parts))["label_logprobs"].to(now.dtype)
    compared = min(len(now), len(before))
    apart = float(torch.nan_to_num(now[:compared] - before[:compared], nan=0.0).abs().mean())
    if apart > SAME_MODEL:
        raise ValueError(
            f"{folder} was begun from another model of the same name: at the first of its documents the server says "
            f"something else now, by {apart:.2g} nats in the mean. Serve the former model, or write into another "
            "folder."
        )
