"""Model directories and row files as a user has them, made on the spot."""

import json
import random
from functools import cache
from pathlib import Path

from tiny_models import CHAT_TEMPLATE, sentence, tiny_model, tiny_tokenizer
from tokenizers import ByteLevelBPETokenizer
from transformers import PreTrainedTokenizerBase, Qwen2Tokenizer


@cache
def _byte_pairs() -> tuple[dict[str, int], list[tuple[str, str]]]:
    rng = random.Random(0)
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([sentence(rng) for _ in range(50)], vocab_size=300, show_progress=False)
    model = json.loads(trained.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def qwen_tokenizer() -> PreTrainedTokenizerBase:
    """A byte-level tokenizer of the class that a directory with a Qwen2 configuration is opened with."""
    vocab, merges = _byte_pairs()
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges, eos_token="<eos>", pad_token="<pad>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", "<assistant>"]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def model_directory(folder: Path, family: str = "llama", *, seed: int = 0, **config) -> str:
    """A model with its tokenizer, as `save_pretrained` writes them."""
    tokenizer = qwen_tokenizer() if family == "qwen2" else tiny_tokenizer()
    model = tiny_model(family, seed=seed, **{"vocab": len(tokenizer), **config})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_rows(path: Path, rows: list) -> str:
    """JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def link_into(folder: Path, home: Path) -> None:
    """Everything of a folder in another one, by link."""
    for entry in home.iterdir():
        (folder / entry.name).symlink_to(entry)
