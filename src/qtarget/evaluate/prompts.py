r"""How a question becomes the token ids that a model is given.

Prompts are ids, not text: a model sees ids, and whether a tool adds a beginning-of-sequence token is the commonest
way for two evaluations of one model to differ.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from qtarget.evaluate.nouns import Question, SamplingProtocol

PromptIds = tuple[int, ...]
Prompt = Callable[[Question, PreTrainedTokenizerBase], PromptIds]

BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
"""The instruction of Qwen2.5-Math's evaluation (arXiv 2409.12122)."""
M1_BOXED = "Return your final response within \\boxed{}."
"""The instruction of m1's evaluation (arXiv 2504.00869)."""
QWEN_BOXED = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{question}\n" + BOXED + "<|im_end|>\n"
    "<|im_start|>assistant\n"
)
LLAMA_BOXED = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n{question}\n" + BOXED + "<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
"""As the medical evaluation of arXiv 2510.00526 writes it, with one beginning-of-text token where it has two."""


def qwen_boxed(question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """The prompt ``qwen-boxed`` of Qwen2.5-Math's evaluation, of DFT and of Beyond Log-Likelihood."""
    return _template(QWEN_BOXED, ("<|im_start|>", "<|im_end|>"), question, tokenizer)


def llama_boxed(question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """The same instruction in the words of LLaMA-3's template."""
    signs = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    return _template(LLAMA_BOXED, signs, question, tokenizer)


def chat(question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """The question as the user's message in the tokenizer's own chat template."""
    return _message(question.text, tokenizer)


def chat_boxed(question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """`chat`, with the instruction of ``qwen-boxed`` behind the question."""
    return _message(f"{question.text}\n{BOXED}", tokenizer)


def m1(question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """m1's medical prompt: question and options, then its instruction, in the chat template."""
    return _message(f"{question.text}\n{M1_BOXED}", tokenizer)


def plain_prompt(question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """The question as it stands, tokenized as trainers tokenize a prompt column."""
    return tuple(cast(list[int], tokenizer(question.text)["input_ids"]))


def plain_boxed(question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """`plain_prompt`, with the instruction of ``qwen-boxed`` behind the question, on a line of its own."""
    return plain_prompt(replace(question, text=f"{question.text}\n{BOXED}\n"), tokenizer)


def auto(question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """`chat` where the tokenizer has a chat template, else `plain_prompt`."""
    return _prompt(chosen_prompt("auto", tokenizer))(question, tokenizer)


def auto_boxed(question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """`chat_boxed` where the tokenizer has a chat template, else `plain_boxed`."""
    return _prompt(chosen_prompt("auto-boxed", tokenizer))(question, tokenizer)


PROMPTS: dict[str, Prompt] = {
    "qwen-boxed": qwen_boxed,
    "llama-boxed": llama_boxed,
    "chat": chat,
    "chat-boxed": chat_boxed,
    "m1": m1,
    "plain": plain_prompt,
    "plain-boxed": plain_boxed,
    "auto": auto,
    "auto-boxed": auto_boxed,
}
HOLE = "{question}"
"""What makes a text a prompt of one's own: the place of the question in it."""
WAYS = ("chat:", "plain:")
"""How a prompt of one's own may begin: as the user's message in the chat template, or as it stands."""


def chosen_prompt(name: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """What a prompt is for this tokenizer, where it depends on whether there is a chat template: "chat" for "auto"."""
    way = "chat" if tokenizer.chat_template else "plain"
    if name in ("auto", "auto-boxed"):
        return name.replace("auto", way)
    return name if name in PROMPTS or name.startswith(WAYS) else f"{way}:{name}"


def check_prompt(name: str) -> None:
    """Refuse what is neither a prompt's name nor a text with ``{question}``.

    Raises:
        ValueError: naming the near one.
    """
    if name in PROMPTS or HOLE in name:
        return
    near = get_close_matches(name, PROMPTS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ValueError(
        f"Unknown prompt {name!r}. {hint}Write one of: {', '.join(map(repr, PROMPTS))}; or a text with {HOLE} in it."
    )


def _prompt(name: str) -> Prompt:
    return PROMPTS[name] if name in PROMPTS else partial(_own_words, name)


def _own_words(words: str, question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """A prompt of one's own: its words with the question in their hole."""
    way, _, text = chosen_prompt(words, tokenizer).partition(":")
    filled = text.replace(HOLE, question.text)
    return _message(filled, tokenizer) if way == "chat" else plain_prompt(replace(question, text=filled), tokenizer)


def prompt_ids(name: str, question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """The ids of the prompt of that name, or of these words.

    Raises:
        ValueError: an unknown name, a tokenizer without the prompt's special tokens or chat template, or a prompt
            that begins with two beginning-of-sequence tokens.
    """
    check_prompt(name)
    ids = _prompt(name)(question, tokenizer)
    refuse_two_bos(ids, tokenizer, name)
    return ids


def refuse_two_bos(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise ValueError for ids that begin with two beginning-of-sequence tokens.

    Elsewhere that token may stand as often as a template likes: in some families it opens every turn.
    """
    bos = tokenizer.bos_token_id
    if bos is None:
        return
    if list(ids[:2]) == [bos, bos]:
        raise ValueError(
            f"The prompt {name!r} begins with two beginning-of-sequence tokens ({tokenizer.bos_token!r}, id {bos}): "
            "the tokenizer adds one and the text or its chat template writes another. Remove it from the text, or "
            "choose a prompt that is tokenized without adding any: 'qwen-boxed', 'llama-boxed', 'chat' or 'm1'."
        )


def check_as_trained(ids: Sequence[int], row: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError unless a training row's ids begin with the prompt that evaluation gives.

    Args:
        ids: of the evaluation's prompt.
        row: ids of the same question's row as it is trained on, completion included.
    """
    if list(row[: len(ids)]) == list(ids):
        return
    at = next((i for i, (a, b) in enumerate(zip(ids, row, strict=False)) if a != b), min(len(ids), len(row)))
    evaluated, trained = (repr(tokenizer.decode(list(part[at : at + 8]))) for part in (ids, row))
    raise ValueError(
        f"The prompt is not what was trained on: they part at token {at}, where evaluation gives {evaluated} and the "
        f"training row has {trained}. Choose the prompt the rows were made with, or make the rows with this one."
    )


def check_prompts_match(
    ask: SamplingProtocol, tokenizer: PreTrainedTokenizerBase, pairs: Iterable[tuple[Question, Sequence[int]]]
) -> None:
    """Refuse a protocol whose prompts are not, id by id, how the training rows begin.

    A model asked otherwise than it was trained is the commonest way for a score to be wrong for every method alike.

    Args:
        pairs: a question, and the ids of the row that trains on it, completion included.

    Raises:
        ValueError: naming the question and the first token that differs, decoded on both sides.
    """
    for question, row in pairs:
        try:
            check_as_trained(prompt_ids(ask.prompt, question, tokenizer), row, tokenizer)
        except ValueError as error:
            raise ValueError(f"Question {question.qid!r}, prompt {ask.prompt!r}: {error}") from error


def _template(template: str, signs: Sequence[str], question: Question, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    """The filled template, its special tokens parsed and no others added."""
    vocabulary = tokenizer.get_vocab()
    missing = [sign for sign in signs if sign not in vocabulary]
    if missing:
        raise ValueError(
            f"This prompt is written with {', '.join(missing)}, which the tokenizer of {tokenizer.name_or_path!r} does "
            "not have; it would be read letter by letter. Write --prompt chat-boxed, for the model's own template."
        )
    text = template.replace("{question}", question.text)
    return tuple(cast(list[int], tokenizer(text, add_special_tokens=False)["input_ids"]))


def _message(content: str, tokenizer: PreTrainedTokenizerBase) -> PromptIds:
    if not tokenizer.chat_template:
        raise ValueError(
            f"The tokenizer of {tokenizer.name_or_path!r} has no chat template. Write --prompt plain, or save one into "
            "it (tokenizer.chat_template = …)."
        )
    messages = [{"role": "user", "content": content}]
    ids: Any = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    return tuple(ids)
