"""The tokenizer of a GGUF file, as transformers makes it, mended by what the file says."""

import unicodedata
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase

CONTROL = 3
"""The type of tokens that stand for no text, as begin and end."""
BYTE_PAIRS = "gpt2"
"""The file's name for byte-level BPE; the others split text as their own model does."""
WORD_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
PATTERNS = {"qwen2": WORD_PATTERN % "" + SPACES, "llama-bpe": WORD_PATTERN % "{1,3}" + SPACES}
"""How text is split before byte pairs are merged, by the file's name for it: OpenAI's pattern, with digits one by one
or by up to three."""
DIGITS_ALONE = ("smollm", "starcoder", "refact", "command-r")
"""Names for GPT-2's pattern after every digit was set apart."""
GPT2_NAMES = ("gpt-2", "default", None)
TRIED = (
    "What is 12 + 345? It's 357.",
    "  two spaces,\ttab\n\nand lines\n",
    "def f(x):\n    return x**2  # 3.14",
    "Größe, naïve, 你好, привет, 🙂",
)
"""Texts that have to come back from their tokens."""


class GgufTokens(NamedTuple):
    """What a file says of its tokens.

    Attributes:
        tokens: by id.  types: of each, 3 for control tokens.
        model: "gpt2" for byte-level BPE, "llama" for SentencePiece.  split: how text is split before it.
        context: positions of the model.
    """

    architecture: str | None
    tokens: list[str]
    types: list[int]
    model: str | None
    split: str | None
    bos: int | None
    eos: int | None
    pad: int | None
    end_of_turn: int | None
    adds_bos: bool | None
    template: str | None
    context: int | None

    @staticmethod
    def of(reader: Any) -> "GgufTokens":
        def field(name: str) -> Any:
            return reader.fields[name].contents() if name in reader.fields else None

        architecture = field("general.architecture")
        return GgufTokens(
            architecture,
            field("tokenizer.ggml.tokens") or [],
            field("tokenizer.ggml.token_type") or [],
            field("tokenizer.ggml.model"),
            field("tokenizer.ggml.pre"),
            field("tokenizer.ggml.bos_token_id"),
            field("tokenizer.ggml.eos_token_id"),
            field("tokenizer.ggml.padding_token_id"),
            field("tokenizer.ggml.eot_token_id"),
            field("tokenizer.ggml.add_bos_token"),
            field("tokenizer.chat_template"),
            field(f"{architecture}.context_length"),
        )

    def ends(self) -> list[int]:
        """Ids of the tokens that end a text or a turn."""
        also = self.tokens.index("<|endoftext|>") if "<|endoftext|>" in self.tokens else None
        return sorted({token for token in (self.eos, self.end_of_turn, also) if token is not None})


def mended_tokenizer(tokenizer: PreTrainedTokenizerBase, tokens: GgufTokens, file: Path) -> PreTrainedTokenizerBase:
    """The tokenizer with the file's splitting, control tokens, ids of begin, end and padding, and chat template.

    Raises:
        ValueError: it splits text in a way that is not known, gives a token another id, or loses text.
    """
    if tokens.model == BYTE_PAIRS:
        _split_as(tokenizer, tokens.split, file)
    _mark_control_tokens(tokenizer, tokens)
    for name, token in (("bos_token", tokens.bos), ("eos_token", tokens.eos), ("pad_token", tokens.pad)):
        if token is not None:
            setattr(tokenizer, name, tokens.tokens[token])
    if tokens.architecture == "qwen2":  # has no token that begins texts, though files name one
        tokenizer.bos_token = None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.chat_template = tokens.template or tokenizer.chat_template
    tokenizer.model_max_length = tokens.context or tokenizer.model_max_length
    _check_ids(tokenizer, tokens, file)
    _check_texts(tokenizer, file)
    return tokenizer


def _split_as(tokenizer: Any, split: str | None, file: Path) -> None:
    """Set how a byte-level tokenizer splits text, by the file's name for it."""
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend = tokenizer.backend_tokenizer
    if split in PATTERNS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(PATTERNS[split]), "isolated"), whole]
        )
    elif split in DIGITS_ALONE:
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    elif split in GPT2_NAMES:
        backend.pre_tokenizer = words
    else:
        raise ValueError(
            f"{file} splits text in the way called {split!r}, which is not known here "
            f"({', '.join([*PATTERNS, *DIGITS_ALONE, 'gpt-2'])} are); name the original checkpoint in its place."
        )
    backend.normalizer = normalizers.NFC() if split == "qwen2" else None
    backend.decoder = decoders.ByteLevel()


def _mark_control_tokens(tokenizer: Any, tokens: GgufTokens) -> None:
    known = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    control = [token for token, kind in zip(tokens.tokens, tokens.types, strict=False) if kind == CONTROL]
    missing = [AddedToken(token, special=True, normalized=False) for token in control if token not in known]
    tokenizer.add_tokens(missing, special_tokens=True)


def _check_ids(tokenizer: PreTrainedTokenizerBase, tokens: GgufTokens, file: Path) -> None:
    vocabulary = tokenizer.get_vocab()
    other = [(i, token, vocabulary.get(token)) for i, token in enumerate(tokens.tokens) if vocabulary.get(token) != i]
    if other or len(vocabulary) != len(tokens.tokens):
        shown = "; ".join(f"{token!r} is {i} in the file and {now} here" for i, token, now in other[:3])
        raise ValueError(
            f"{file}: of {len(tokens.tokens)} tokens {len(other)} have another id once read "
            f"({shown or 'more were made'}); name the original checkpoint in its place."
        )


def _check_texts(tokenizer: Any, file: Path) -> None:
    """Refuse a tokenizer from whose tokens a text does not come back. SentencePiece's may begin with a space less."""
    for text in TRIED:
        normal = unicodedata.normalize("NFC", text)
        ids = tokenizer(normal, add_special_tokens=False)["input_ids"]
        back = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if back.lstrip(" ") != normal.lstrip(" ") and tokenizer.unk_token_id not in ids:
            raise ValueError(
                f"{file}: its tokenizer, as transformers reads it, gives {back!r} back for {normal!r}; name the "
                "original checkpoint in its place."
            )
