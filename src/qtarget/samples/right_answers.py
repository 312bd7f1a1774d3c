"""The right answers to the prompts of rows, by which a grader judges samples."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from qtarget.evaluate.grading.grader_settings import make_grader
from qtarget.evaluate.nouns import Question
from qtarget.evaluate.tasks.own_questions import OwnQuestions
from qtarget.evaluate.tasks.question_columns import ANSWERING
from qtarget.samples.sampled_prompts import SampledPrompt

ASKED_BY_PROMPT, NAME_OF_PROMPT = "asked by the prompt", "name of the prompt"
"""Columns that are added to a row, so that the evaluator's reader finds the question and its name."""
WORKED = ("completion", "response", "output", "solution")
"""Columns of answers with all their steps, in which a grader finds the answer."""


class _PlacedRow(dict[str, Any]):
    """A row that knows where it stands."""

    place = ""


def ungraded_questions(prompts: Sequence[SampledPrompt]) -> list[Question]:
    """A question for each distinct prompt, without an answer."""
    return [Question(prompt.name, prompt.text, "") for prompt in distinct_prompts(prompts)]


def distinct_prompts(prompts: Sequence[SampledPrompt]) -> list[SampledPrompt]:
    """Each prompt once, where it came first; a prompt of which a teacher is told several things once for each."""
    first: dict[str, SampledPrompt] = {}
    for prompt in prompts:
        first.setdefault(prompt.name, prompt)
    return list(first.values())


def graded_questions(
    prompts: Sequence[SampledPrompt], answer: str | None, grader: str, settings: dict[str, Any]
) -> list[Question]:
    """A question for each distinct prompt, with the right answer of its row.

    Args:
        answer: the column that holds it; None to find it by its name.

    Raises:
        ValueError: no such column, rows without an answer or with one that the grader cannot use, or equal prompts
            with other answers.
    """
    _check_column(prompts, answer)
    judge: Any = make_grader(grader, settings)
    fields = {"question": ASKED_BY_PROMPT, "id": NAME_OF_PROMPT, **({} if answer is None else {"answer": answer})}
    reader = OwnQuestions(fields, getattr(judge, "trouble", lambda _: None), grader == "choice")
    column = answer or _short_answer(prompts)
    seen = dict[tuple[int, ...], tuple[SampledPrompt, Any]]()
    for prompt in prompts:
        said = prompt.row.get(column) if column else None
        before = seen.setdefault(prompt.ids, (prompt, said))
        if before[1] != said:
            raise ValueError(
                f"{before[0].place} and {prompt.place} ask the same and give other answers in `{column}` "
                f"({before[1]!r}, {said!r}); write one answer, or a list of those that are right."
            )
    try:
        return reader([_placed(prompt) for prompt in distinct_prompts(prompts)]).questions
    except ValueError as error:
        said = str(error).replace("--fields question=…,answer=…", "`sample: {answer: COLUMN}` (or --answer COLUMN)")
        raise ValueError(f"the right answers of the prompts: {said}") from error


def _short_answer(prompts: Sequence[SampledPrompt]) -> str | None:
    """The column in which equal prompts must have equal answers, where the user names none. Worked answers are passed
    over, as several of them may be right."""
    there = {name.casefold(): name for prompt in prompts for name in prompt.row}
    return next((there[name] for name in ANSWERING if name in there and name not in WORKED), None)


def _placed(prompt: SampledPrompt) -> _PlacedRow:
    row = _PlacedRow({**prompt.row, ASKED_BY_PROMPT: prompt.text, NAME_OF_PROMPT: prompt.name})
    row.place = prompt.place
    return row


def _check_column(prompts: Sequence[SampledPrompt], answer: str | None) -> None:
    there = list(dict.fromkeys(name for prompt in prompts for name, value in prompt.row.items() if value is not None))
    listed = ", ".join(f"`{name}`" for name in there)
    if answer is None:
        if not {name.casefold() for name in there} & set(ANSWERING):
            raise ValueError(
                f"no column of the rows holds right answers (they have {listed}), and a grader needs them; write "
                "`sample: {answer: COLUMN}` (or --answer COLUMN), or `keep: all` without a grader."
            )
        return
    if answer not in there:
        near = get_close_matches(answer, there, n=1)
        hint = f"did you mean `{near[0]}`? " if near else ""
        raise ValueError(f"`sample: {{answer: {answer}}}`: no row has that column; {hint}the columns are {listed}.")
