"""A message's own word on whether it is trained: what axolotl, OpenAI, Mistral, LLaMA-Factory, ms-swift and torchtune
write beside its content."""

import math
from collections.abc import Mapping
from typing import Any

from qtarget.data.bad_rows.faults import RowFault, shown

TRAINED = "weight"
"""The key under which messages say it here: 0 for one that is not learned, 1 for one that is asked to be."""
LEARNED_KEYS = ("train", "training", "loss", "weight", "loss_weight")
MASKED_KEYS = ("mask", "masked")
PARTLY_KEYS = ("train_detail", "training_detail")
TRAINING_KEYS = (*LEARNED_KEYS, *MASKED_KEYS, *PARTLY_KEYS)
"""Names that such keys have."""


def trained(message: Mapping[str, Any], field: str) -> int | None:
    """0 where a message (or a part of its content) is not to be learned, 1 where it is; None where it does not say.

    Args:
        field: the message's place, for faults.

    Raises:
        RowFault: the keys contradict one another, weigh the message by another number than 0 or 1, or speak of parts
            of its text.
    """
    given = {key: message[key] for key in TRAINING_KEYS if message.get(key) is not None}
    said = {_trained(key, value, field) for key, value in given.items()}
    if len(said) > 1:
        keys = " and ".join(f"`{key}: {shown(given[key])}`" for key in given)
        raise RowFault("message that is and is not trained", field, f"has {keys}, which contradict each other")
    return next(iter(said), None)


def _trained(key: str, value: Any, field: str) -> int:
    if key in PARTLY_KEYS:
        raise RowFault(
            f"{key} of a message",
            f"{field}.{key}",
            "says which characters are trained, and that is not read here",
            "Write a column `weight_spans`: for each message a list of [start, end, weight], in characters.",
        )
    is_number = isinstance(value, int | float) and math.isfinite(value)
    if not is_number or value not in (0, 1):
        raise RowFault(
            f"{key} of a message that is neither 0 nor 1",
            f"{field}.{key}",
            f"is {shown(value)}, and a message is learned (1, true) or not (0, false)",
            "To weigh its tokens, write a column `weight_spans`: for each message a list of [start, end, weight].",
        )
    return int(value == (0 if key in MASKED_KEYS else 1))
