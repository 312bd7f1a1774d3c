"""The worlds of the embedded lab (`qtarget.lab`) as tasks."""

from collections.abc import Sequence
from functools import partial

from qtarget import lab
from qtarget.evaluate.nouns import Question, QuestionSet, RowSource, SamplingProtocol, Task
from qtarget.evaluate.tasks.fields import Row, content_id, numbered

QUESTIONS, SEED = 120, 0


def chains(rows: Sequence[Row]) -> QuestionSet:
    """The lab's questions: a ``prompt`` and its ``answer``."""
    return QuestionSet(
        [
            Question(content_id(fields.text("prompt")), fields.text("prompt"), fields.text("answer"))
            for fields in numbered(rows)
        ]
    )


def lab_task(world: lab.World) -> Task:
    """A world's held-out questions, asked as its demonstrations are written."""
    return Task(
        name=f"lab-{world.name}",
        version=1,
        suite="lab",
        source=RowSource(make=partial(lab.questions, world, QUESTIONS, SEED)),
        rows=QUESTIONS,
        ask=SamplingProtocol("plain", max_new_tokens=world.max_new_tokens),
        read=chains,
        grader="lab",
        citation=world.description,
    )


LAB_TASKS: dict[str, Task] = {task.name: task for task in map(lab_task, lab.WORLDS.values())}
