"""Whether a model is asked as it was trained: the commonest way for a score to be wrong for every method alike."""

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from qtarget.evaluate.nouns import Question, SamplingProtocol
from qtarget.evaluate.prompts import check_as_trained, prompt_ids


def check_prompts_match(
    ask: SamplingProtocol, tokenizer: PreTrainedTokenizerBase, pairs: Iterable[tuple[Question, Sequence[int]]]
) -> None:
    """Refuse a way to ask whose prompts are not how the rows of training begin, id by id.

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
