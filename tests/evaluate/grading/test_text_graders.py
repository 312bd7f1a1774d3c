"""Graders of own questions that need no process: exact, contains, number."""

import json

import pytest
from evaluate.golden_cases import GOLDEN

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
    ("5", "5'000", 0), ("5", "5’000", 0), ("5", "5 000", 0), ("5", "5\u202f000", 0), ("5", "- 5", 0), ("5", "-$5", 0),
    ("5", "−€5", 0), ("5", "-(5)", 0), ("5", "5:00", 0), ("5", "5–6", 0), ("5", "3–5", 0), ("5", "5²", 0),
    ("5", "5!", 1), ("5", "in 2020 5 won", 1),
    ("000", "1 000", 0), ("5", "10-5", 0), (".5", "1.5", 0), (".5", "0.5", 0), (".5", "it is .5", 1), ("-5", "10-5", 0),
    ("-5", "x-5", 0), ("-5", "it is -5.", 1), ("-5", "(-5)", 1), ("C", "C++", 0), ("C", "C#", 0), ("C", "in C.", 1),
    ("C++", "C++.", 1), ("5", "$5", 1), ("5", "x = 5", 1), ("5", "of 5 apples", 1), ("5", "from 4 to 5.", 1),
    ("5", "it is **5**", 1), ("5", "(5)", 1), ("12", "12 30", 1), ("5", "5, 000", 1),
    ("toxic", "It is non-toxic.", 0), ("C", "Objective-C", 0), ("sugar", "sugar-free", 0), ("Paris", "Paris-Est", 0),
    ("5", "a 5-year plan", 1),
    ("Paris", "- Paris", 1), ("Paris", "Lyon - Paris", 1), ("Paris", "Paris—of course", 1),
    ("aba", "ababa aba", 1), ("5", "15 5", 1),
    ("5", "- ( 5", 0), ("5", "-( 5", 0), ("5", "a-5", 0), ("234", "1 234", 0), ("234", "1 234 5", 0), ("23", "1 23", 1),
    ("can", "I can't", 0), ("can", "I can’t.", 0), ("can", "I can.", 1), ("do", "I don't", 0),
    ("is", "it isn't", 0), ("it", "it's", 1), ("$5", "-$5", 0), ("$5", "- $5", 0), ("$5", "−$5", 0),
    ("$5", "US-$5", 1), ("€5", "-€5", 0), ("-$5", "it is -$5", 1),
    ("not said", "", 0), ("Rome", "<think>Rome</think>Paris", 0),
]  # fmt: skip
NUMBER = [
    ("72", "so it is 72", 1), ("72", "72.", 1), ("72", "$72.00", 1), ("72", "72%", 1), ("72", "7,2", 0),
    ("1250", "1,250 dollars", 1), ("1250", "1 250", 1), ("1250", "1\u202f250", 1), ("5", "1,5", 0),
    ("-5", "\u22125", 1),
    ("5", "10-5", 0), ("-5", "10-5", 0), ("0.75", "3/4", 1), ("4", "3/4", 0), ("4", r"\frac{3}{4}", 0),
    ("3/4", r"it is \frac{3}{4}", 1), ("10", "2^{10}", 0), ("10", "2^10", 0), ("1e-3", "0.001", 1), (".5", "0.5", 1),
    ("72", r"first 3, then \boxed{72}, of 80", 1), ("72", r"\boxed{72\text{ pens}}", 1),
    ("72", r"\boxed{\$1{,}072}", 0),
    ("2", r"\boxed{\sqrt{2}}", 0), ("3", r"\boxed{3x}", 0), ("30", "10:30", 0), ("1", "2024-05-01x", 0), ("5", "H5", 0),
    ("72", "<think>72</think> I give up", 0), ("100", "1e2", 1), ("1", "1/0", 0), ("3", "1.2.3", 0),
    ("72", "seventy-two", 0), ("12", "12" + "0" * 80, 0),
]  # fmt: skip

MINUS_FIVE = [
    "-$5", r"-\$5", "−£ 5", "-€5", "- 5", "minus 5", "negative 5", "－5", "-(5)", r"\boxed{- 5}", r"\boxed{-$5}",
    r"\boxed{-\text{5}}", r"\boxed{\text{minus } 5}", r"\boxed{-\,5}", r"\boxed{-(5)}", r"\text{answer is }-5", "$-5$",
    "It is (exactly) -5", "**-5**", "so x = - 5", "x=−5.0", "<b>-5</b>", "−5 km", "it is $-\\frac{10}{2}$", "(-5)",
    r"\boxed{-\frac{10}{2}}", r"\boxed{\dfrac{-10}{2}}", r"-\(5\)", "=> -5", "Answer:-5", "is minus $5", "‒5", "-５",
]  # fmt: skip
READ = [
    ("1234", ["1 234", r"1\,234", "1{,}234", "1'234", "1’234", "1\u2009234", "1,234", r"\boxed{1{,}234}",
              r"\boxed{1\,234}", "$1 234.00", "1234", "１２３４", r"\boxed{1\;234}"]),
    ("-1234", ["-1 234", r"-1\,234", "-$1,234", "minus 1'234"]), ("1234567", ["1 234 567", r"1\,234\,567"]),
    ("2.5", ["2½", "2 1/2", r"2\frac{1}{2}", r"2 \frac12", r"\boxed{2\frac{1}{2}}", r"\boxed{2 1/2}", "2 ½", "5/2",
             r"\dfrac{5}{2}", "2\u00a01/2"]),
    ("-2.5", ["-2 1/2", r"-2\frac{1}{2}", "-2½"]), ("0.5", ["½", "1 / 2", "1/ 2", r"\tfrac{ 1 }{ 2 }", "1/2 cup"]),
    ("5e6", ["5 million", "5 million dollars", r"\boxed{5\text{ million}}", "$5 Million.", "5,000 thousand"]),
    ("60", ["5 dozen"]), ("-3000", ["-3 thousand"]),
    ("5", ["5 m^2", "5 m/s^2", "≈5", r"\approx 5", "~5", r"5^\circ", r"5^{\circ}", r"5\text{ km}", "5 - that is all",
           "<answer>5</answer>", '{"answer": 5}', "<<2+3=5>>5", "-> 5", "5</s>", "5<|im_end|>", "| 5 |", "#### 5",
           "5kg", "5m", "5 H2O", "5 of x_{2}", "1. 5 apples", "It was 3 for 2 and is 5 now", "(5)", "x = 5, as said",
           "5 apples and pears", "5 - 6 = -1, so 5", "the total is +5", "**Answer:** **5**", r"$x = 5$", "5 a day",
           r"\[ x = 5 \]", "* 5", "5 - the sum", "5 + the rest", "5% off", r"5\%", "at 5 I left"]),
]  # fmt: skip
NO_NUMBER = [
    ("2", ["x/2", "π/2", r"\frac{\pi}{2}", r"\boxed{\frac{\pi}{2}}", r"\frac{a}{2}", r"\dfrac{-1}{2}", "√2", r"\sqrt 2",
           r"\sqrt{2}", r"\sqrt[3]{2}", "ln(2)", "log 2", "10**2", "2½", "e^{-2}", "10^(-2)", "2 × 3", "10 ÷ 2", "5√2",
           "the square root of 2", "x ** 2", "10 / x2", "3*2", "3 * 2", r"3 \times 2", "3·2", "x + 2", "10 + 2", "x-2",
           "2^10", "2 ^ 10", "1010 mod 2", "5 e^2", r"\boxed{e^2}", "2nd", "the 2nd", r"\boxed{5+2}", "2+", "f(x)-2"]),
    ("5", ["5²", "⁻5", "²5", "5!", "5k", "5M", "5 k", "5i", "5π", r"5\pi", r"5 \pi", r"5\sqrt{2}", r"\boxed{5x}", "±5",
           r"\boxed{x<5}", r"\boxed{>5}", r"\boxed{±5}", r"\boxed{\pm 5}", r"\boxed{\text{not }5}", r"\boxed{5i}",
           "5th",
           r"\boxed{5 \text{ million}}", "5 million", "5 thousand", "5 hundred", "5 dozen", "5bn", "5 lakh", "5 x",
           "less than 5", "at least 5", "> 5", "<5", "≥5", r"\ge 5", "≠5", "not 5", "isn't 5", "3 or 5", "3 to 5",
           "between 3 and 5", "3–5", "3 - 5", "3~5", "2, 3, 5", "{2, 3, 5}", "3 km or 5 km", "x = 2 or x = 5",
           "5 or 6 x",
           "5 is wrong", "5 + C", "5 < x", "5(x+1)", "5 and a half", "10-5", "10−5", "x minus 5", "3 plus 5", "--5",
           "—5",
           "-(-5)", "-(5+1)x", "f(5)", r"\binom{7}{5}", "3 5", "5xy", "5 squared", r"\boxed{5_{10}}",
           r"\boxed{5,\ldots}"]),
    ("3", ["3!", "1/3", r"2\frac{1}{3}", r"\frac123"]), ("10", ["10³", "5 × 10³", "2**10", "2^(10)",
           r"5 \times 10^{3}"]),
    ("0.5", ["2 1/2", r"2 \frac12", r"2\frac{1}{2}", r"\boxed{2 1/2}", r"\boxed{- \dfrac{1}{2}}", r"- \frac{1}{2}",
           "-½",
             "1/2x", "2 / 1/2", r"x\frac{1}{2}x"]),
    ("234", ["1 234", r"1\,234", "1{,}234", "1\u2009234", "1'234", "1٬234", "1·234", "12 34 234"]), ("567",
           ["1 234 567"]),
    ("7.5", ["5 5/2"]), ("1", ["is-1", "(exactly)-1", r"\text{answer is }-1", "0%-1", "x -1"]), ("8", ["log_2(8)"]),
]  # fmt: skip


THINKING_TAGS = [
    ("<|START_THINKING|>", "<|END_THINKING|>"), ("<|start_thinking|>", "<|end_thinking|>"), ("<reason>", "</reason>"),
    ("<analysis>", "</analysis>"), ("<inner_monologue>", "</inner_monologue>"), ("< think >", "</ think >"),
    ("<think >", "< /think>"), ("<Thoughts>", "</Thoughts>"), ("<inner_thoughts>", "</inner_thoughts>"),
]  # fmt: skip


def test_what_stands_between_thinking_tags_is_no_answer():
    for opens, closes in THINKING_TAGS:
        for grader in (ExactGrader(), ContainsGrader(), NumberGrader()):
            assert verdict(grader, "5", f"{opens}5{closes}\n6") == (0, "ok"), opens
            assert verdict(grader, "5", f"{opens}6{closes}\n5") == (1, "ok"), opens
            assert verdict(grader, "5", f"{opens}5") == (0, "unfinished_thinking"), opens


def test_no_minus_sign_is_lost():
    wrong = [(text, gold) for text in MINUS_FIVE for gold, value in (("-5", 1), ("5", 0))
             if verdict(NumberGrader(), gold, text) != (value, "ok")]  # fmt: skip
    assert not wrong


def test_numbers_that_can_be_read():
    asked = [(gold, text) for gold, texts in READ for text in texts]
    assert not [case for case in asked if verdict(NumberGrader(), *case) != (1, "ok")]


def test_a_part_of_a_formula_a_bound_or_a_list_is_no_number():
    asked = [(gold, text) for gold, texts in NO_NUMBER for text in texts]
    assert not [case for case in asked if verdict(NumberGrader(), *case)[0] != 0]


@pytest.mark.parametrize(
    ("grader", "cases"), [(ExactGrader(), EXACT), (ContainsGrader(), CONTAINS), (NumberGrader(), NUMBER)]
)
def test_verdicts(grader, cases):
    wrong = [(gold, said, value) for gold, said, value in cases if verdict(grader, gold, said)[0] != value]
    assert not wrong


def misread(grader, file: str) -> list[tuple[str, str, int]]:
    """The rows of a golden file that the grader takes for something else: gold, answer, and whether it is right."""
    lines = GOLDEN.joinpath(f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [tuple(json.loads(line).values()) for line in lines]
    return [row for row in rows if verdict(grader, *row[:2])[0] != row[2]]


def test_a_reference_is_not_the_answer_nor_is_one_of_two():
    assert misread(NumberGrader(), "number") == []


def test_ignored_punctuation_is_never_a_part_of_a_number_or_a_name():
    assert misread(ExactGrader(ignore_punctuation=True), "exact_unpunctuated") == []


END_MARKERS = [
    "</s>", "<|im_end|>", "<eos>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "<|end|>",
    "<|eom_id|>", "<｜end▁of▁sentence｜>", "<|return|>", "<|END_OF_TURN_TOKEN|>", "[EOS]", "<pad>", "<|eos|>",
    "</s></s>", "\n</s>\n", "<|im_end|>\n<|endoftext|>",
]  # fmt: skip


@pytest.mark.parametrize("marker", END_MARKERS)
def test_the_sign_that_ends_a_text_is_no_part_of_the_answer(marker):
    graders = (ExactGrader(), ContainsGrader(), NumberGrader())
    assert [verdict(grader, "5", f"5{marker}") for grader in graders] == [(1, "ok")] * 3
    assert [verdict(grader, "5", marker) for grader in graders] == [(0, "no_answer")] * 3


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
