"""The embedded lab: micro-worlds of arithmetic, small enough for two CPU cores, in which the choice of target matters.

A world has questions, demonstrations to train on, and a tiny student and teacher that ship with the package.
"""

from qtarget.outcomes import needs_extra

with needs_extra("qtarget.lab"):
    from qtarget.lab.checkpoints import load, load_student, load_teacher, student_path, teacher_path, tokenizer
    from qtarget.lab.pretrain import build, build_model
    from qtarget.lab.worlds import (
        WORLDS,
        Demonstration,
        LabQuestion,
        World,
        demonstrations,
        grade,
        questions,
        true_answer,
        world,
    )

__all__ = [
    "WORLDS",
    "Demonstration",
    "LabQuestion",
    "World",
    "build",
    "build_model",
    "demonstrations",
    "grade",
    "load",
    "load_student",
    "load_teacher",
    "questions",
    "student_path",
    "teacher_path",
    "tokenizer",
    "true_answer",
    "world",
]
