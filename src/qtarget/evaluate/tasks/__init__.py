"""Tasks: versioned sets of questions, each with a protocol, a reader of its rows and a grader."""

from qtarget.evaluate.tasks.catalogue import TASKS, task

__all__ = ["TASKS", "task"]
