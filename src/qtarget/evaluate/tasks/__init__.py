"""Tasks: versioned sets of questions with the way to ask and to grade them."""

from qtarget.evaluate.tasks.catalogue import TASKS, task

__all__ = ["TASKS", "task"]
