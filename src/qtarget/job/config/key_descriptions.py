"""What every key of a configuration means, in a line: of TRL's keys as their classes say it, of a run's own here."""

import re
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, NamedTuple

from trl import ModelConfig  # pyright: ignore[reportPrivateImportUsage]

from qtarget.job.config.keys import RUN_KEYS, TRL_NAMES, all_keys
from qtarget.train import TargetSFTConfig

RUN_KEY_DESCRIPTIONS = {
    "model": "The model to fine-tune: a directory, a GGUF file or a name on the hub.",
    "train_dataset": "Rows to train on: a file or a list of files, a directory, a name on the hub, or a list of sets.",
    "eval_dataset": "Rows to measure the loss on, which are not trained on; named as `train_dataset` is.",
    "streaming": "Read training rows while training runs, instead of all of them before; needs `max_steps`.",
    "mixture_stopping": "When an epoch of a mixture of sets ends.",
    "dataset_config": "Configuration of a data set on the hub.",
    "dataset_train_split": "Split of the rows to train on.",
    "dataset_test_split": "Split of the rows to measure the loss on.",
    "prompt_format": "A prompt of `qtarget eval` to ask each question with; without it, the chat template.",
    "train_rows": "How many training rows to take; all of them if left out.",
    "train_rows_seed": "Draw `train_rows` rows with this seed, instead of taking the first ones.",
    "longer_rows": "What becomes of rows over `max_length` tokens where `prompt_format` is given.",
    "resume_from_checkpoint": "Go on from a checkpoint: true for the newest whole one, or its folder.",
    "sample": "What `qtarget sample` draws, and which samples it keeps: keys of its own, as in `{k: 8, keep: right}`.",
    "rounds": "Train so many times on the student's own samples, drawn and kept anew for each round as `sample` says.",
    "rounds_from": "What the student of a round begins as: `base`, the model, or `last`, the last round's student.",
    "rounds_launch": "What starts each round's training, as `accelerate launch --num_processes 4`.",
    "cache_sampled": "Keep tokens drawn from the teacher's distribution, instead of its likeliest ones.",
    "cache_bytes_per_token": "Bytes on disk for a token of text, in the place of `teacher_top_k`.",
    "cache_missing_mass": "Keep of each distribution as many tokens as leave at most this mass out, such as 0.01.",
    "cache_min_k": "With `cache_missing_mass`, tokens that are kept at the least; by default 1.",
    "cache_max_k": "With `cache_missing_mass`, tokens that are kept at the most; by default 256.",
    "cache_dtype": "Type of the log-probabilities in a teacher cache.",
    "cache_batch_tokens": "Tokens of text that go through the teacher at once while a cache is written.",
    "cache_shard_tokens": "Tokens of text in a file of a teacher cache.",
}
"""Keys of a run that neither trainer nor model has."""
OWN_DEFAULTS = {
    "learn": "assistant",
    "rounds_from": "base",
    "bf16": None,
}
"""Defaults that the command line sets, and the classes do not; bf16 is chosen by the machine."""


class KeyDescription(NamedTuple):
    """What a key means.

    Attributes:
        text: one or a few sentences; "" where the library says nothing.
        default: as YAML has it; None where there is none, or what is taken then depends on something else.
    """

    text: str
    default: Any


@cache
def key_descriptions() -> dict[str, KeyDescription]:
    """Every key of a configuration, with its meaning and its default."""
    described = {f.name: _of_field(f) for owner in (ModelConfig, TargetSFTConfig) for f in fields(owner)}
    own = {key: KeyDescription(text, _plain(RUN_KEYS[key][1])) for key, text in RUN_KEY_DESCRIPTIONS.items()}
    every = {key: described.get(key, KeyDescription("", None)) for key in all_keys()} | own
    theirs = {key: KeyDescription(f"TRL's name of `{ours}`.", None) for key, ours in TRL_NAMES.items()}
    return {**{key: _with_own_default(key, each) for key, each in every.items()}, **theirs}


def _of_field(f: Field) -> KeyDescription:
    text = re.sub(r"\s+", " ", str(f.metadata.get("help", ""))).strip()
    default = f.default if f.default_factory is MISSING else f.default_factory()
    return KeyDescription(text, _plain(default))


def _with_own_default(key: str, described: KeyDescription) -> KeyDescription:
    return described._replace(default=OWN_DEFAULTS[key]) if key in OWN_DEFAULTS else described


def _plain(value: Any) -> Any:
    """A default as YAML and JSON have it; None for one that they do not."""
    value = getattr(value, "value", value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | dict) else None
