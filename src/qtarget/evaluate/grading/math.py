"""Grading mathematics: the answer in the last box, compared with the gold by Math-Verify in processes of their own."""

from importlib.metadata import version
from typing import Literal, cast

from qtarget.evaluate.grading.any_right import any_right
from qtarget.evaluate.grading.beside_box import is_one_of_two, is_part
from qtarget.evaluate.grading.boxed import last_box, last_boxed
from qtarget.evaluate.grading.denied import is_denied, is_taken_back
from qtarget.evaluate.grading.math_ratios import is_ratio_of_three, same_ratio, terms
from qtarget.evaluate.grading.math_spelling import spelled
from qtarget.evaluate.grading.math_units import has_other_unit, with_variables
from qtarget.evaluate.grading.math_unlike import is_in_percent, is_unlike
from qtarget.evaluate.grading.next_question import parts_by_question
from qtarget.evaluate.grading.thinking import said
from qtarget.evaluate.grading.too_large import is_too_large
from qtarget.evaluate.grading.untrusted import is_unreadable
from qtarget.evaluate.grading.worker_pool import WorkerPool
from qtarget.evaluate.nouns import Grade, Question, Reason

LIBRARIES = ("math-verify", "latex2sympy2_extended", "antlr4-python3-runtime", "sympy")


class MathGrader:
    """Grades `\\boxed{…}` answers.

    A completion without a last box is ``no_answer``: nothing else in it is taken for one, nor what stands in a model's
    thinking. Of several golds one is enough. Boxes that "and", "or" or a comma joins are one answer. What cannot be
    judged within the limits is None with the reason ``timeout``, never wrong, and costs no other answer.

    Args:
        seconds: for one answer.
        memory_bytes: address space of a worker (where the system can limit it).
        at_once: answers that are judged at once, each by a worker; None for one a processor, up to 8.
    """

    name, version = "math", 6

    def __init__(self, seconds: float = 5.0, memory_bytes: int = 2 * 1024**3, at_once: int | None = None) -> None:
        self.pool = WorkerPool(seconds, memory_bytes, at_once)
        self.at_once = len(self.pool.workers)

    def fingerprint(self) -> str:
        libraries = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
        limits = f"{self.pool.seconds:g} s, {self.pool.memory_bytes / 1024**2:g} MiB"
        return f"{self.name} {self.version} ({libraries}; {limits})"

    def grade(self, question: Question, completion: str) -> Grade:
        text = said(completion)
        if text is None:
            return Grade(0, "unfinished_thinking")
        box = last_box(text)
        if is_answered_otherwise(text):
            return Grade(0, "several")
        if box is None or box.inside is None:
            return Grade(0, "cut_off" if box else "no_answer")
        if is_denied(text, box.start, box.end):
            return Grade(0, "untrue", box.inside.strip())
        if is_taken_back(text, box.end):
            return Grade(0, "withdrawn", box.inside.strip())
        if is_one_of_two(text, box):
            return Grade(0, "several", box.inside.strip())
        if is_part(text, box):
            return Grade(0, "parse_error", box.inside.strip())
        answer = ", ".join(dict.fromkeys(part.strip() for part in (*box.beside, box.inside)))
        if not answer:
            return Grade(0, "no_answer")
        return any_right(self._judged(gold.strip(), answer, question.text) for gold in question.answers)

    def _judged(self, gold: str, answer: str, asked: str) -> Grade:
        if answer == gold or (not is_unreadable(answer) and spelled(answer) == spelled(gold)):
            return Grade(1, "boxed", answer)
        if is_in_percent(gold, answer, asked):
            return Grade(0, "boxed", answer)
        if is_unreadable(gold):
            return Grade(None, "gold_unparseable", answer)
        if is_unreadable(answer) or is_unreadable(spelled(answer)):
            return Grade(0, "parse_error", answer)
        if is_too_large(gold) or is_too_large(answer):
            return Grade(None, "timeout", answer)
        one, other = spelled(gold), spelled(answer)
        if is_ratio_of_three(one) or is_ratio_of_three(other):
            if (same := same_ratio(one, other)) is not None:
                return Grade(1 if same else 0, "boxed", answer)
            one, other = (f"({', '.join(terms(ratio))})" for ratio in (one, other))
        verdict = self.pool.compare(*with_variables(one, other))
        if verdict["value"] == 1 and (is_unlike(one, other) or has_other_unit(gold, answer)):
            return Grade(0, "boxed", answer)
        reason = "boxed" if verdict["reason"] == "ok" else verdict["reason"]
        return Grade(cast(Literal[0, 1] | None, verdict["value"]), cast(Reason, reason), answer)

    def close(self) -> None:
        """End the workers. They end with this process too."""
        self.pool.close()


def is_answered_otherwise(text: str) -> bool:
    """Whether the text goes on to another question and boxes another answer to that."""
    parts = parts_by_question(text)
    boxes = [last_boxed(part) for part in parts] if len(parts) > 1 else []
    return len({spelled(inside) for inside in boxes if inside and not is_unreadable(inside)}) > 1
