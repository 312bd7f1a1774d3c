"""One grade of an answer to a question that has several right answers."""

from collections.abc import Iterable

from qtarget.evaluate.nouns import Grade


def any_right(grades: Iterable[Grade]) -> Grade:
    """The grade of an answer by those against each right answer, one or more: the first that is 1, else the first that
    is unknown, since that answer may have been meant, else the first. Grades behind one that is 1 are not asked for."""
    unlike: list[Grade] = []
    for grade in grades:
        if grade.value == 1:
            return grade
        unlike.append(grade)
    return next((grade for grade in unlike if grade.value is None), unlike[0])
