"""Rows that enter and leave a batch in flight: what becomes of a model's cache of keys and values.

A cache's rows end at its last column; before the first token of a shorter row stand columns that the attention mask
hides. So a row can be put beside others of any length: only the hidden columns before it become more or fewer.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from qtarget.evaluate.generators.row_families import PADDED, REFILLED

LAYERS = (DynamicLayer, DynamicSlidingWindowLayer)
"""Layers of a cache whose rows can be moved."""
Batching = Literal["refilled", "padded", "alike"]
"""How rows are drawn together: "refilled" where rows may leave and enter; "padded" where prompts of any length stand
side by side, but leave together; "alike" where padding would change what a model says, so that only prompts of one
length stand side by side."""


def batching_of(model: PreTrainedModel) -> Batching:
    """How rows of a model may be drawn together, by what is known of its family; see `Batching`."""
    model = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    family = model.config.get_text_config(decoder=True).model_type
    if not type(model).__module__.startswith("transformers."):  # code of the model's own, under whatever name
        return "alike"
    cache = empty_cache(model) if family in REFILLED else None
    if cache is not None and cache.layers and all(type(layer) in LAYERS for layer in cache.layers):
        return "refilled"
    return "padded" if family in REFILLED or family in PADDED else "alike"


def empty_cache(model: PreTrainedModel) -> DynamicCache:
    """A cache as `generate` makes it for a model by itself."""
    return DynamicCache(config=model.config.get_text_config(decoder=True))


def keep_rows(cache: DynamicCache, rows: Sequence[int], columns: int) -> None:
    """Let a cache hold these of its rows, in this order, a row as often as it is named, and its last columns."""
    index = torch.tensor(rows, dtype=torch.long)
    for layer in _filled(cache):
        layer.reorder_cache(index)
        _resize(layer, columns)


def join_rows(cache: DynamicCache, others: DynamicCache) -> None:
    """Put the rows of another cache behind a cache's own. The shorter of the two gets columns before its first."""
    for layer, other in zip(_filled(cache), _filled(others), strict=True):
        columns = max(layer.get_seq_length(), other.get_seq_length())
        _resize(layer, columns)
        _resize(other, columns)
        layer.keys = torch.cat([layer.keys, other.keys])
        layer.values = torch.cat([layer.values, other.values])


def _filled(cache: DynamicCache) -> list[Any]:
    """The layers that hold something: layers that share another's keys and values stay empty. All are of `LAYERS`."""
    return [layer for layer in cast(list[Any], cache.layers) if layer.is_initialized]


def _resize(layer: Any, columns: int) -> None:
    """Let a layer have so many columns, the last of its own at the end; one with a window stores only its last ones."""
    stored = columns
    if isinstance(layer, DynamicSlidingWindowLayer):
        stored = min(columns, layer.sliding_window - 1)
        layer.cumulative_length = columns
    layer.keys, layer.values = (_last(cast(Tensor, states), stored) for states in (layer.keys, layer.values))


def _last(states: Tensor, columns: int) -> Tensor:
    """The last columns of states `[N, heads, columns, width]`, with zeros before them where they are too few."""
    more = columns - states.shape[-2]
    return pad(states, (0, 0, more, 0)) if more > 0 else states[..., -more:, :]
