"""Graders in processes of their own: a user's Python function, and regular expressions."""

import json
import sys
from pathlib import Path

import pytest

from qtarget.evaluate.grading import (
    ContainsGrader,
    ExactGrader,
    MathGrader,
    NumberGrader,
    PythonGrader,
    RegexGrader,
)
from qtarget.evaluate.grading.any_right import any_right
from qtarget.evaluate.nouns import Grade, Question

FUNCTIONS = """
import os
from beside import NEARLY

def right(completion, gold, row):
    print("a line that is no reply")
    return completion.strip() == gold

def close(completion, gold, row):
    return abs(float(completion) - float(gold)) < NEARLY * row["scale"], completion

def unsure(completion, gold, row):
    return None, "?"

def raises(completion, gold, row):
    raise KeyError(completion)

def leaves(completion, gold, row):
    raise SystemExit(0)

def dies(completion, gold, row):
    os._exit(3)

def hangs(completion, gold, row):
    while completion != gold:
        pass
    return True

def eats(completion, gold, row):
    return bool([bytes(1 << 24) for _ in range(1 << 12)])

def nonsense(completion, gold, row):
    said = {"a word": "yes", "a share": 0.5, "a list": [1], "nan": float("nan"), "two": 2, "three parts": (1, 2, 3)}
    return said[completion]

def array(completion, gold, row):
    class Bool:
        def __eq__(self, other): return other == 1
        def __int__(self): return 1
    return Bool()

def secret(completion, gold, row):
    return "HF_TOKEN" not in os.environ and "PATH" in os.environ
"""
QUESTION = Question("q", "?", "5", row=json.dumps({"scale": 10}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("NEARLY = 0.1\n", "utf-8")
    (tmp_path / "grade.py").write_text(FUNCTIONS, "utf-8")
    return tmp_path / "grade.py"


def verdicts(file: Path, function: str, *completions: str, **limits) -> list[tuple]:
    grader = PythonGrader(str(file), function, at_once=1, **{"seconds": 60, **limits})
    try:
        grades = []
        for completion in completions:
            grades.append(grader.grade(QUESTION, completion))
            give_time(grader)
        return [(grade.value, grade.reason, grade.extracted, grade.note) for grade in grades]
    finally:
        grader.close()


def give_time(grader: PythonGrader) -> None:
    """For the next answers of one that has a second: it is enough to hang, and not to answer on a busy machine."""
    for worker in grader.pool.pool.workers:
        worker.seconds, worker.command[4] = 60.0, "60"


def test_what_a_function_returns_is_the_grade(file: Path, monkeypatch: pytest.MonkeyPatch):
    assert verdicts(file, "right", "5 ", "6", "<think>6</think>5", "<think>5") == [
        (1, "ok", None, ""), (0, "ok", None, ""), (1, "ok", None, ""), (0, "unfinished_thinking", None, ""),
    ]  # fmt: skip
    assert verdicts(file, "close", "5.9", "7") == [(1, "ok", "5.9", ""), (0, "ok", "7", "")]
    assert verdicts(file, "unsure", "5") == [(None, "grader_failed", "?", "it returned None: not known")]
    assert verdicts(file, "array", "5")[0][:2] == (1, "ok")
    monkeypatch.setenv("HF_TOKEN", "hunter2")
    assert verdicts(file, "secret", "5")[0][0] == 1


def test_a_function_that_fails_leaves_an_unknown_grade_with_the_reason(file: Path):
    assert verdicts(file, "raises", "x") == [
        (None, "grader_failed", None, "it raised KeyError: 'x' (grade.py, line 16)")
    ]
    assert verdicts(file, "leaves", "x")[0][3].startswith("it raised SystemExit: 0")
    said = verdicts(file, "nonsense", "a word", "a share", "a list", "nan", "two", "three parts")
    assert [(value, reason) for value, reason, *_ in said] == [(None, "grader_failed")] * 6
    assert said[1][3] == "it returned 0.5, and True, False or None is expected"


def test_one_that_hangs_dies_or_eats_memory_costs_no_other_answer(file: Path):
    limits = "it did not answer within 1 s and 64 MiB, or its process ended"
    assert verdicts(file, "hangs", "6", "5", seconds=1, memory_mib=64) == [
        (None, "timeout", None, limits), (1, "ok", None, ""),
    ]  # fmt: skip
    assert verdicts(file, "dies", "5", seconds=1, memory_mib=64) == [(None, "timeout", None, limits)]
    if sys.platform.startswith("linux"):
        assert verdicts(file, "eats", "5", seconds=60, memory_mib=64)[0][:2] == (None, "timeout")


def test_the_function_of_the_page(tmp_path: Path):
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text("utf-8")
    _, _, code = page.partition("The new file `near.py`:\n\n```python\n")
    (tmp_path / "near.py").write_text(code.partition("```")[0], "utf-8")
    error = "could not convert string to float: 'none'"
    assert verdicts(tmp_path / "near.py", "is_near", "it is 5.5", "it is 6.5", "none") == [
        (1, "ok", "5.5", ""),
        (0, "ok", "6.5", ""),
        (None, "grader_failed", None, f"it raised ValueError: {error} (near.py, line 3)"),
    ]


@pytest.mark.parametrize(
    ("source", "function", "said"),
    [
        (None, "right", r"--grade python:.*:right: there is no such file"),
        ("def rihgt(c, g, r): return True", "right", r"it has no function 'right'; it has: rihgt"),
        ("1/0", "right", r"importing it raised ZeroDivisionError: division by zero \(grade2\.py, line 1\)"),
        ("def right(:", "right", r"importing it raised SyntaxError"),
        ("raise SystemExit", "right", r"importing it raised SystemExit"),
    ],
)
def test_a_function_that_is_not_there_is_refused_before_the_work(tmp_path: Path, source, function: str, said: str):
    file = tmp_path / "grade2.py"
    if source is not None:
        file.write_text(source, "utf-8")
    grader = PythonGrader(str(file), function, at_once=1)
    with pytest.raises(ValueError, match=said):
        grader.check()
    grader.close()


def test_the_fingerprint_is_of_the_code(file: Path):
    before = PythonGrader(str(file), "right").fingerprint()
    assert PythonGrader(str(file), "right").fingerprint() == before
    file.write_text(FUNCTIONS + "\n", "utf-8")
    assert PythonGrader(str(file), "right").fingerprint() != before


def found(gold: str, completion: str, **settings) -> tuple:
    grader = RegexGrader(**{"seconds": 60, **settings})
    try:
        grade = grader.grade(Question("q", "?", gold), completion)
        return grade.value, grade.reason, grade.extracted
    finally:
        grader.close()


def test_regular_expressions():
    assert found(r"\bParis\b", "it is Paris.") == (1, "ok", "Paris")
    assert found(r"\bParis\b", "it is Parish.") == (0, "ok", "")
    assert found("paris", "PARIS", ignore_case=True) == (1, "ok", "PARIS")
    last = {"pattern": r"answer: (\w+)"}
    assert found("B", "answer: A, no, answer: B", **last) == (1, "ok", "B")
    assert found("B", "answer: B, no, answer: A", **last) == (0, "ok", "A")
    assert found("B", "B", **last) == (0, "no_answer", None)
    assert found("12", "x=12", pattern=r"(?P<name>\w)=(?P<answer>\d+)") == (1, "ok", "12")
    with pytest.raises(ValueError, match="is not a regular expression"):
        RegexGrader(pattern="(a")


def test_an_expression_without_end_is_killed():
    assert found("x", "a" * 60, pattern=r"(a|aa)+$|(a*)*b", seconds=1)[:2] in [(0, "ok"), (None, "timeout")]
    assert found("(a*)*b", "a" * 60, seconds=1)[:2] == (None, "timeout")


def test_of_several_golds_one_is_enough(tmp_path: Path):
    """Whatever the grader: each of them is right, and nothing else."""
    (tmp_path / "g.py").write_text("def same(completion, gold, row):\n    return completion == gold\n", "utf-8")
    question = Question("q", "?", "5", accepted=("6", "7"), row="{}")
    graders = (
        ExactGrader(), ContainsGrader(), NumberGrader(), RegexGrader(seconds=60),
        MathGrader(seconds=60, at_once=1), PythonGrader(str(tmp_path / "g.py"), "same", seconds=60, at_once=1),
    )  # fmt: skip
    for grader in graders:
        boxed = r"\boxed{%s}" if grader.name == "math" else "%s"
        assert [grader.grade(question, boxed % said).value for said in "5678"] == [1, 1, 1, 0], grader.name
        getattr(grader, "close", lambda: None)()
    assert any_right([Grade(0, "ok"), Grade(None, "timeout"), Grade(1, "ok")]).value == 1
    assert any_right([Grade(0, "ok"), Grade(None, "timeout"), Grade(0, "ok")]).value is None


HELPERS = {
    "direct.py": "import through\nA = 1\n", "through.py": "def f():\n    from late import B\n", "late.py": "B = 1\n",
    "pack/__init__.py": "from .part import C\n", "pack/part.py": "C = 1\n", "named.py": "", "space/inner.py": "D = 1\n",
}  # fmt: skip


@pytest.mark.parametrize("changed", [*HELPERS, "g.py"])
def test_a_module_beside_the_file_is_part_of_the_grader(tmp_path: Path, changed: str):
    source = (
        "import json, direct\nimport pack.part, importlib\nfrom space import inner\nimportlib.import_module('named')\n"
    )
    for name, text in {**HELPERS, "g.py": source, "other.py": "", "broken.py": "(:"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    grader = PythonGrader(str(tmp_path / "g.py"), "right", at_once=1)
    before = grader.fingerprint()
    (tmp_path / "other.py").write_text("E = 2\n", "utf-8")
    assert grader.fingerprint() == before
    (tmp_path / changed).write_text((tmp_path / changed).read_text("utf-8") + "E = 2\n", "utf-8")
    assert grader.fingerprint() != before
