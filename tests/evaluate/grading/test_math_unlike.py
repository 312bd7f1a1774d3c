"""What Math-Verify takes for equal and is not, and boxes whose own sentence denies them."""

import pytest

from qtarget.evaluate.grading import MathGrader
from qtarget.evaluate.nouns import Question

CASES = [
    *[("5", text, 0) for text in (
        r"The answer is not \boxed{5}", r"\boxed{5} is wrong. The answer is 6.", r"It isn't $\boxed{5}$.",
        r"So it cannot be \(\boxed{5}\)", r"$x \neq \boxed{5}$", r"**\boxed{5}** is not the answer",
        r"\boxed{5\text{ million}}", r"\boxed{5\text{ dozen}}", r"\boxed{\ge 5}", r"\boxed{\le 5}", r"\boxed{≥5}",
    )],
    *[("5", text, 1) for text in (
        r"not \boxed{6} but \boxed{5}", r"It is \boxed{5}. This is not trivial.", r"6 is wrong; it is \boxed{5}",
        r"\boxed{5\text{ cm}}", r"It is not 6, so it is \boxed{5}, which is not wrong.",
    )],
    ("east", r"\boxed{seat}", 0), ("listen", r"\boxed{silent}", 0), ("no", r"\boxed{on}", 0),
    ("odd", r"\boxed{d^2 o}", 0),
    ("Paris", r"\boxed{Pairs}", 0), ("Paris", r"\boxed{\text{paris}}", 1), ("New York", r"\boxed{\text{New York}}", 1),
    ("xy", r"\boxed{yx}", 1), ("abc", r"\boxed{cab}", 1), ("x\\sin x", r"\boxed{\sin(x) x}", 1),
    ("x", r"\boxed{x'}", 0), ("f'(x)", r"\boxed{f(x)}", 0),
    ("5000000", r"\boxed{5\text{ million}}", 1), ("2400", r"\boxed{2.4 thousand}", 1),
    ("36", r"\boxed{3\text{ dozen eggs}}", 1),
    *[(r"5\text{ m}", text, 0) for text in (
        r"\boxed{5\text{ cm}}", r"\boxed{5 \mathrm{km}}", r"\boxed{5\text{ seconds}}",
    )],
    *[(r"5\text{ m}", text, 1) for text in (r"\boxed{5}", r"\boxed{5\text{ meters}}", r"\boxed{5\text{ m}}")],
    (r"10\text{ minutes}", r"\boxed{10\text{ hours}}", 0), (r"10\text{ minutes}", r"\boxed{10 \mbox{ min}}", 1),
    (r"5\text{ cm}^2", r"\boxed{5\text{ m}^2}", 0), (r"12\text{ apples}", r"\boxed{12\text{ pears}}", 1),
    (r"[5,\infty)", r"\boxed{x \ge 5}", 1), (r"x \ge 5", r"\boxed{x\geq 5}", 1),
]  # fmt: skip


@pytest.fixture(scope="module")
def grader():
    made = MathGrader(seconds=60, at_once=1)
    yield made
    made.close()


def test_what_is_like_and_what_is_not(grader: MathGrader):
    wrong = [case for case in CASES if grader.grade(Question("q", "?", case[0]), case[1]).value != case[2]]
    assert wrong == []


def test_per_cent_is_right_where_it_is_asked_for(grader: MathGrader):
    asked = [Question("q", text, "50") for text in ("What percent is it?", "How many are there?")]
    assert [grader.grade(question, r"\boxed{50\%}").value for question in asked] == [1, 0]


def test_a_second_question_that_is_answered_otherwise_leaves_no_answer(grader: MathGrader):
    text = "\\boxed{5}\n\nQuestion 2: what?\n\\boxed{7}"
    assert [grader.grade(Question("q", "?", gold), text).reason for gold in "57"] == ["several", "several"]
    assert grader.grade(Question("q", "?", "5"), text.replace("7", "5")).value == 1
