"""What TRL asks for when it has a data set to prepare, and how its own preparation is asked in turn."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase
from trl.trainer.sft_config import SFTConfig

from qtarget.data import Asker

Prepare = Callable[[Any, SFTConfig, bool], Any]
"""TRL's way to prepare a data set, under a configuration, packed or not."""


class Preparation(NamedTuple):
    """A data set to prepare, and how its rows are rendered as text.

    Attributes:
        name: of the data set, "train" or "eval".  chat_template: the one in the place of the tokenizer's own, or None.
        has_formatter: whether a function of the user turns rows into text first.
        asker: in whose language errors say what to write.
        only_turns: whether `assistant_only_loss` was given, which rows without turns contradict.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    chat_template: str | None
    has_formatter: bool
    asker: Asker = Asker.PYTHON
    only_turns: bool = False


def without_cutting(args: SFTConfig) -> SFTConfig:
    """A copy of the configuration under which TRL tokenises and labels rows but neither cuts nor shuffles them."""
    whole = copy.copy(args)
    whole.max_length, whole.shuffle_dataset = None, False
    return whole


@contextmanager
def completions_learned(trainer: Any, dataset: Any, args: SFTConfig) -> Iterator[None]:
    """While the block runs, completions alone are learned of a data set that has some, where the configuration does
    not say: TRL decides that by the first training row, for all data sets."""
    before = trainer.completion_only_loss
    if args.completion_only_loss is None:
        trainer.completion_only_loss = {"prompt", "completion"} <= next(iter(dataset), {}).keys()
    try:
        yield
    finally:
        trainer.completion_only_loss = before
