"""Tokens as texts that join to the sentence they stand in, with what cannot be seen spelled out."""

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from qtarget.console import shortened, spelled_out

TOKENS_BEFORE = 8
"""Tokens before one that may decide how it is written."""
LONGEST_TOKEN = 200
"""Characters of one token that are shown."""
HALF_CHARACTER = "\ufffd"


def token_texts(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text that each token adds to those before it. Of a character in several tokens the last has all of it."""
    texts = []
    for at in range(len(ids)):
        start = max(0, at - TOKENS_BEFORE)
        before, after = (_decoded(ids[start:stop], tokenizer) for stop in (at, at + 1))
        if after.endswith(HALF_CHARACTER):
            texts.append("" if at + 1 < len(ids) else HALF_CHARACTER)
            continue
        before = before.rstrip(HALF_CHARACTER)
        texts.append(after[len(before) :] if after.startswith(before) else _decoded(ids[at : at + 1], tokenizer))
    return texts


def candidate_texts(ids: Iterable[int], tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> dict[int, str]:
    """Tokens that stand alone. One that is no text, or a row of the output layer without a token, has a name."""
    return {each: _candidate(each, tokenizer) for each in sorted(set(ids)) if each < vocabulary}


def shown_token(text: str) -> str:
    """A token as a person may see it: line breaks, and characters that command or hide, spelled out; long ones cut."""
    cut = shortened(text, LONGEST_TOKEN)
    return "".join(sign if sign == " " else spelled_out(sign) for sign in cut)


def _candidate(token: int, tokenizer: PreTrainedTokenizerBase) -> str:
    text = _decoded([token], tokenizer)
    if text and HALF_CHARACTER not in text:
        return text
    name = tokenizer.convert_ids_to_tokens(token)
    return f"<{token}>" if name is None else str(name)


def _decoded(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)) if len(ids) else ""
