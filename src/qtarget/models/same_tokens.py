"""Whether two tokenizers give the same ids to the same tokens, however many rows their models' embeddings have."""

from collections.abc import Mapping

from transformers import PreTrainedTokenizerBase


def check_same_tokens(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase, name: str) -> None:
    """Refuse a teacher whose tokenizer maps tokens to other ids, naming the first that differ."""
    check_same_map(student.get_vocab(), teacher.get_vocab(), name)


def check_same_map(ours: Mapping[str, int], theirs: Mapping[str, int], name: str) -> None:
    """Like `check_same_tokens`, for two maps from tokens to ids, the student's first."""
    if ours == theirs:
        return
    by_id = [{index: token for token, index in vocab.items()} for vocab in (ours, theirs)]
    differing = sorted(i for i in by_id[0].keys() | by_id[1].keys() if by_id[0].get(i) != by_id[1].get(i))
    first = ", ".join(f"{i}: {by_id[0].get(i)!r} and {by_id[1].get(i)!r}" for i in differing[:3])
    raise ValueError(
        f"The {name} has another tokenizer than the student: {len(differing)} token ids differ, first {first} "
        "(student's and teacher's). A target over the student's vocabulary needs the same token ids in both; choose a "
        f"{name} of the student's family."
    )


def number_of_tokens(tokens: Mapping[str, int]) -> int:
    """How many leading rows of an output layer stand for tokens.

    Models of one tokenizer may have more rows than that (Qwen2.5: 151936 and 152064 rows for 151665 tokens).
    """
    return max(tokens.values(), default=-1) + 1
