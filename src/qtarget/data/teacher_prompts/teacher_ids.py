"""What a teacher reads of a row under a prompt of its own: the same completion behind other tokens.

It is kept as a column with a list for each of the row's tokens, so it is cut, packed and mixed as labels and weights
are, and nothing can put the two prompts out of step.
"""

from collections.abc import Sequence

from qtarget.console import spelled_out
from qtarget.data.bad_rows.faults import RowFault, shown
from qtarget.target.types import IGNORED

TEACHER_PROMPT = "teacher_prompt"
"""Column of rows: what the teacher is asked in the place of the prompt."""
PRIVILEGED_CONTEXT = "privileged_context"
"""Column of rows: what the teacher is told behind the prompt, as in TRL's `SDFTTrainer`."""
TEACHER_PARTS = (TEACHER_PROMPT, PRIVILEGED_CONTEXT)
TEACHER_IDS = "teacher_ids"
"""Column of prepared rows: for each token the ids that the teacher reads in its place, most often the token alone."""


def as_the_student(ids: Sequence[int]) -> list[list[int]]:
    """The column of a row of which the teacher reads what the student does."""
    return [[token] for token in ids]


def in_place(
    ids: Sequence[int], labels: Sequence[int], others: Sequence[int], column: str = TEACHER_PROMPT
) -> list[list[int]]:
    """For each token of a row, what the teacher reads in its place.

    Prompts stand side by side from their start, with what is left of a longer one at the last token before the
    completion: a row that loses tokens at its start loses as many of the teacher's.

    Args:
        ids, labels: the row's, `[n]`, −100 where a token is not learned.
        others: the tokens of the teacher's prompt and the same completion, `[m]`.
        column: where the rows have that prompt, for errors.

    Raises:
        RowFault: the tokens from the first learned one on are other ones behind the teacher's prompt.
    """
    first = next((at for at, label in enumerate(labels) if label != IGNORED), None)
    if first is None:
        return as_the_student(ids)
    shared = len(ids) - first
    prompt, completion = list(others[: len(others) - shared]), list(others[len(others) - shared :])
    if first == 0 or not prompt or completion != list(ids[first:]):
        raise _other_tokens(first, ids, others, column)
    spare = first - len(prompt)
    if spare >= 0:
        beside = [[]] * spare + as_the_student(prompt)
    else:
        beside = [*as_the_student(prompt[: first - 1]), prompt[first - 1 :]]
    return [*beside, *as_the_student(ids[first:])]


def _other_tokens(first: int, ids: Sequence[int], others: Sequence[int], column: str) -> RowFault:
    shared = next((n for n, pair in enumerate(zip(ids[::-1], others[::-1], strict=False)) if pair[0] != pair[1]), 0)
    at = len(ids) - shared - 1
    found = f"token {at + 1} of the row is {ids[at]}, and {list(others)[-shared - 1]}" if shared < len(others) else ""
    return RowFault(
        "completion that is other tokens behind the teacher's prompt",
        column,
        "makes other tokens of the completion than the prompt does, and a teacher scores the same ones"
        f" ({found or f'its tokens are {shown(list(others))}'} behind it)",
        f"Let `{spelled_out(column)}` end as the prompt does, where a token ends: with the same space or line break.",
    )
