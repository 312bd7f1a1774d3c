"""Graders of own questions that need no process: exact, contains, number."""

import pytest

from qtarget.evaluate.grading import ContainsGrader, ExactGrader, NumberGrader
from qtarget.evaluate.nouns import Question


def verdict(grader, gold: str, completion: str, *accepted: str) -> tuple[int | None, str]:
    grade = grader.grade(Question("q", "?", gold, accepted=accepted), completion)
    return grade.value, grade.reason


EXACT = [
    ("Paris", "Paris", 1), ("Paris", "  Paris\n", 1), ("New York", "New \n York", 1), ("Paris", "paris", 0),
    ("Paris", "Paris.", 0), ("Paris", "It is Paris", 0), ("caf\u00e9", "cafe\u0301", 1), ("5", "<think>4</think>5", 1),
]  # fmt: skip
CONTAINS = [
    ("Paris", "It is Paris.", 1), ("no", "nothing", 0), ("no", "I know", 0), ("no", "no!", 1), ("5", "15", 0),
    ("5", "5.3", 0), ("5", "It is 5.", 1), ("5", "3.5", 0), ("5", "-5", 0), ("5", "1/5", 0), ("5", "5/6", 0),
    ("5", "5^2", 0), ("5", "2^5", 0), ("5", "5,000", 0), ("5", "x5", 0), ("C++", "in C++ and", 1), ("a.b", "axb", 0),
    ("Paris", "paris", 0), ("東京", "答えは東京です", 1), ("서울", "서울은", 1), ("Ann", "Anna", 0),
    ("Ann", "Ann's", 1),
    ("not said", "", 0), ("Rome", "<think>Rome</think>Paris", 0),
]  # fmt: skip
NUMBER = [
    ("72", "so it is 72", 1), ("72", "72.", 1), ("72", "$72.00", 1), ("72", "72%", 1), ("72", "7,2", 0),
    ("1250", "1,250 dollars", 1), ("1250", "1 250", 0), ("1250", "1\u202f250", 1), ("5", "1,5", 0),
    ("-5", "\u22125", 1),
    ("5", "10-5", 1), ("-5", "10-5", 0), ("0.75", "3/4", 1), ("4", "3/4", 0), ("4", r"\frac{3}{4}", 0),
    ("3/4", r"it is \frac{3}{4}", 1), ("10", "2^{10}", 0), ("10", "2^10", 0), ("1e-3", "0.001", 1), (".5", "0.5", 1),
    ("72", r"first 3, then \boxed{72}, of 80", 1), ("72", r"\boxed{72\text{ pens}}", 1),
    ("72", r"\boxed{\$1{,}072}", 0),
    ("2", r"\boxed{\sqrt{2}}", 0), ("3", r"\boxed{3x}", 1), ("30", "10:30", 0), ("1", "2024-05-01x", 1), ("5", "H5", 0),
    ("72", "<think>72</think> I give up", 0), ("100", "1e2", 1), ("1", "1/0", 0), ("3", "1.2.3", 0),
    ("72", "seventy-two", 0), ("12", "12" + "0" * 80, 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("grader", "cases"), [(ExactGrader(), EXACT), (ContainsGrader(), CONTAINS), (NumberGrader(), NUMBER)]
)
def test_verdicts(grader, cases):
    wrong = [(gold, said, value) for gold, said, value in cases if verdict(grader, gold, said)[0] != value]
    assert not wrong


def test_what_may_be_ignored():
    assert verdict(ExactGrader(ignore_case=True), "Paris", "PARIS") == (1, "ok")
    assert verdict(ExactGrader(ignore_punctuation=True), "Paris", "«Paris.»") == (1, "ok")
    assert verdict(ExactGrader(last_line=True), "Paris", "France, so:\nParis\n\n") == (1, "ok")
    assert verdict(ExactGrader(last_line=True), "Paris", "Paris\nor Rome") == (0, "ok")
    assert verdict(ContainsGrader(ignore_case=True), "Straße", "die STRASSE!") == (1, "ok")
    assert verdict(ExactGrader(), "Paris", "Lutetia", "Lutetia") == (1, "ok")
    assert verdict(ContainsGrader(), "UK", "the United Kingdom", "United Kingdom") == (1, "ok")


def test_tolerances():
    assert verdict(NumberGrader(tolerance=0.01), "3.14", "3.15") == (1, "ok")
    assert verdict(NumberGrader(tolerance=0.01), "3.14", "3.1501") == (0, "ok")
    assert verdict(NumberGrader(relative=0.1), "-100", "about -90.0") == (1, "ok")
    assert verdict(NumberGrader(), "0.1", "0.30000000000000004") == (0, "ok")
    with pytest.raises(ValueError, match=r"tolerance=-1 was given; write 0 or more"):
        NumberGrader(tolerance=-1)


def test_reasons():
    assert verdict(NumberGrader(), "5", "I do not know") == (0, "no_answer")
    assert verdict(NumberGrader(), "5", "2^10") == (0, "parse_error")
    assert verdict(NumberGrader(), "7", r"it is 7: \boxed{7") == (0, "cut_off")
    assert verdict(NumberGrader(), "7", r"\boxed{6} or \boxed{7}") == (0, "several")
    assert verdict(NumberGrader(), "7", r"it is 7: \boxed{}") == (0, "no_answer")
    assert verdict(NumberGrader(), "five", "5") == (None, "gold_unparseable")
    assert verdict(ExactGrader(), "5", "<think>5") == (0, "unfinished_thinking")
    assert verdict(ContainsGrader(), "5", " \n") == (0, "no_answer")


def test_a_gold_that_cannot_be_one_is_said():
    assert NumberGrader().trouble(Question("q", "?", "3 or 4"))
    assert ExactGrader(ignore_punctuation=True).trouble(Question("q", "?", "..."))
    assert not NumberGrader().trouble(Question("q", "?", "1,250 km"))


@pytest.mark.parametrize("grader", [ExactGrader(), ContainsGrader(), NumberGrader()])
@pytest.mark.parametrize(
    "text", ["1," * 50_000, "1^" * 50_000, "a1" * 50_000, " " * 100_000, r"\frac{1" * 20_000, "5" * 99_999]
)
def test_long_answers_take_no_time_worth_a_limit(grader, text):
    """Linear in the length: a quadratic reading of these takes minutes."""
    assert verdict(grader, "5", text)[0] == 0
