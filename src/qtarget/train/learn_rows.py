"""What `learn` makes of a data set: conversations become tokens here, other rows are TRL's to tokenise."""

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

from qtarget.data import Asker, RowPolicy, RowRendering, found_rows, is_conversation, learned_rows
from qtarget.train.target_sft_config import TargetSFTConfig
from qtarget.train.trl_preparation import Preparation


def without_trl_masks(args: TargetSFTConfig) -> TargetSFTConfig:
    """The configuration for TRL, whose own masks `learn` takes the place of."""
    if args.learn is None:
        return args
    rest = copy.copy(args)
    rest.assistant_only_loss = False
    rest.completion_only_loss = False if args.learn == "all" else args.completion_only_loss
    return rest


def conversations_learned(
    rows: Any, args: TargetSFTConfig, request: Preparation, policy: RowPolicy, dropped: Counter[str]
) -> Any:
    """Conversations with `input_ids` and `labels`; where the labels are TRL's, conversations as they are, after a check
    that the chat template shows each message; other rows as they are.

    Args:
        dropped: where rows that are left out are counted, by reason; those of a stream as they come.

    Raises:
        UnusableRow: a conversation that cannot be learned.  ValueError: rows of which `learn` means nothing.
    """
    sample = next(iter(rows), {})
    if request.has_formatter or not is_conversation(sample):
        _check_texts(sample, args, request)
        return rows
    rendering = RowRendering(request.tokenizer, request.chat_template, args.unspanned_weight)
    learn: Any = args.learn or ("all" if "messages" in sample and not args.assistant_only_loss else None)
    with args.main_process_first(desc="rendering conversations"):
        if learn is not None:
            return learned_rows(rows, learn, rendering, policy, dropped)
        return found_rows(rows, "assistant" if args.assistant_only_loss else "all", rendering, policy, dropped)


def _check_texts(sample: Mapping[str, Any], args: TargetSFTConfig, request: Preparation) -> None:
    """Refuse `learn: last` and `assistant_only_loss` on rows without turns. A completion of text is its last turn."""
    has_turns = isinstance(sample.get("completion"), str) and not request.has_formatter
    only_turns = request.only_turns or (args.assistant_only_loss and "input_ids" not in sample)
    said = "learn" if args.learn == "last" and not has_turns else "assistant_only_loss" if only_turns else None
    if said is not None:
        asker: Asker = request.asker
        line = asker.line(said, "last" if said == "learn" else True)
        raise ValueError(
            f"{line} means turns of a conversation, and rows of the {request.name} data set have none: their columns "
            f"are {', '.join(sample)}. Write {asker.line('learn', 'assistant')} in its place, which learns the "
            "completion of `prompt` and `completion`, every token of a text, and what the labels of token ids say."
        )
