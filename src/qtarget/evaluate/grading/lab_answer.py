"""Grading the lab's completions by what follows the last ``answer``."""

from qtarget import lab
from qtarget.evaluate.nouns import Grade, Question


class LabGrader:
    """`qtarget.lab.grade`, with its reasons."""

    name, version = "lab", 1

    def fingerprint(self) -> str:
        return f"{self.name} {self.version}"

    def grade(self, question: Question, completion: str) -> Grade:
        _, marker, answer = completion.rpartition("answer")
        answer = " ".join(answer.split())
        if not marker or not answer:
            return Grade(0, "no_answer")
        right = lab.grade({"prompt": question.text, "answer": question.gold}, completion)
        return Grade(1 if right else 0, "ok", answer)
