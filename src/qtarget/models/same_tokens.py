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
    shared = by_id[0].keys() & by_id[1].keys()
    if not any(by_id[0][i] != by_id[1][i] for i in shared):
        raise ValueError(_added(by_id[0], by_id[1], name))
    first = ", ".join(f"{i}: {by_id[0].get(i)!r} and {by_id[1].get(i)!r}" for i in differing[:3])
    raise ValueError(
        f"The {name} has another tokenizer than the student: {len(differing)} token ids differ, first {first} "
        "(student's and teacher's). A target over the student's vocabulary needs the same token ids in both; choose a "
        f"{name} of the student's family."
    )


def _added(ours: Mapping[int, str], theirs: Mapping[int, str], name: str) -> str:
    """What to say of tokenizers of one family, one of which has tokens more."""
    only_ours = bool(ours.keys() - theirs.keys())
    more, less = (ours, theirs) if only_ours else (theirs, ours)
    added = sorted(more.keys() - less.keys())
    whose, other = ("student", name) if only_ours else (name, "student")
    shown = ", ".join(f"{i}: {more[i]!r}" for i in added[:3])
    return (
        f"The {name}'s tokenizer is of the student's family, but the {whose}'s has {len(added)} token(s) more, first "
        f"{shown}, of which the {other} knows nothing. Take one tokenizer for both: leave the added tokens out, or "
        f"add them to the {other} too (`tokenizer.add_tokens`, `model.resize_token_embeddings`) and save it with them."
    )


def number_of_tokens(tokens: Mapping[str, int]) -> int:
    """How many leading rows of an output layer stand for tokens.

    Models of one tokenizer may have more rows than that (Qwen2.5: 151936 and 152064 rows for 151665 tokens).
    """
    return max(tokens.values(), default=-1) + 1
