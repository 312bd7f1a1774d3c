"""Whole evaluations of a user's own questions, asked of the lab's student."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from evaluate.generators.cases import STUDENT
from evaluate.grading.judging import JUDGE, judging
from kept_ports import kept_port

from qtarget import lab
from qtarget.cli.main import main
from qtarget.console import SafeConsole
from qtarget.evaluate.compare.arms import read_arms
from qtarget.evaluate.compare.tables import compare_arms
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.evaluate.run.conduct import run_evaluation
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.run.view import results_view
from qtarget.evaluate.store import load_answers
from qtarget.evaluate.tasks.own_task import OWN_ASK, own_task

WORLD = lab.world("weak-operator")
ASK = replace(OWN_ASK, k=2, max_new_tokens=WORLD.max_new_tokens)
ANSWER = r"answer\s+(\S+)"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(map(json.dumps, lab.questions(WORLD, 6, 0))), "utf-8")
    return path


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_):
        raise AssertionError("a sample was drawn")

    return lambda: monkeypatch.setattr(HuggingFace, "generate", refuse)


def plan(rows: Path, grade: str = f"regex:{ANSWER}", **changes) -> EvaluationPlan:
    task = own_task(rows, grade, ask=ASK, settings=changes.pop("settings", None))
    folder = rows.parent
    return replace(EvaluationPlan(str(STUDENT), (task,), folder / "out", lock=folder / "lock.json"), **changes)


def test_own_questions_are_asked_graded_and_compared(rows: Path, no_drawing):
    (one,) = run_evaluation(plan(rows)).tasks
    assert (one.task, one.suite, one.questions, one.ask.prompt, one.overridden) == ("sums", "own", 6, "plain", ())
    assert not (rows.parent / "lock.json").exists()
    (answers,) = load_answers(rows.parent / "out")
    golds = {question.qid: question.gold for question in answers.questions}
    every = [record for records in answers.records for record in records]
    assert {record.grade for record in every} == {0, 1}
    assert all((record.extracted == golds[record.qid]) == bool(record.grade) for record in every)
    greedy = plan(rows, out=rows.parent / "other", protocol={"seed": 1})
    (other,) = run_evaluation(greedy).tasks
    table = compare_arms(read_arms([f"one={rows.parent / 'out'}", f"two={greedy.out}"])).tasks[0]
    assert [score.average.mean for score in table.scores] == [one.average.mean, other.average.mean]
    no_drawing()  # another grader grades what is there
    (exact,) = run_evaluation(plan(rows, "exact")).tasks
    assert (exact.grader, exact.average.mean) == ("exact", 0)
    again = replace(plan(rows), regrade=True)
    assert run_evaluation(again).tasks[0].average.mean == one.average.mean
    assert run_evaluation(replace(again, tasks=("sums",))).tasks[0].average.mean == one.average.mean


def test_rows_that_changed_are_refused_with_the_difference(rows: Path):
    run_evaluation(plan(rows))
    changed = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    changed[2]["answer"] = "1000"
    rows.write_text("\n".join(map(json.dumps, changed)), "utf-8")
    with pytest.raises(
        ValueError, match=r"holds another evaluation of sums.*\n  question '\w+': .*gold '1' there, '1000' now"
    ):
        run_evaluation(plan(rows))
    with pytest.raises(
        ValueError, match=r"sums\.jsonl is not what .* was asked from.*\n  question '\w+': .*gold '1' there, '1000' now"
    ):
        run_evaluation(plan(rows, regrade=True))
    rows.write_text("\n".join(map(json.dumps, changed[:2] + changed[3:])), "utf-8")
    with pytest.raises(ValueError, match=r"\n  question '\w+' \(.* is gone\n.*another --out"):
        run_evaluation(plan(rows, regrade=True))
    rows.unlink()  # the samples hold their questions
    assert run_evaluation(replace(plan(rows, regrade=True), tasks=("sums",))).tasks[0].questions == 6


def test_a_judge_that_goes_away_stops_the_run_which_goes_on_from_there(rows: Path, no_drawing):
    with judging() as server:
        settings = {"url": server.url, "model": JUDGE, "patience": 0.1, "at_once": 1}
        server.away_from = 3
        with pytest.raises(ValueError, match=r"was away for 0\.1 s .*the same command goes on where this one stopped"):
            run_evaluation(plan(rows, "judge", settings=settings))
        no_drawing()
        server.away_from = None
        (one,) = run_evaluation(plan(rows, "judge", settings=settings)).tasks
        (answers,) = load_answers(rows.parent / "out")
        distinct = {(record.qid, record.completion) for records in answers.records for record in records}
        assert len(server.asked) <= len(distinct)
        assert one.unknown == {}
        assert all(record.grade_note for records in answers.records for record in records)


def test_a_grader_that_fails_is_in_the_table(rows: Path, tmp_path: Path):
    (tmp_path / "grade.py").write_text("def right(completion, gold, row):\n    raise TypeError('no')\n", "utf-8")
    results = run_evaluation(plan(rows, f"python:{tmp_path / 'grade.py'}:right", limit=1))
    (one,) = results.tasks
    assert one.unknown == {"grader_failed": 2}
    assert any("the grader failed on 2 samples; on " in text and "TypeError: no" in text for text in one.warnings)
    page = io.StringIO()
    SafeConsole(file=page, width=200).print(results_view(results, 200))
    assert "rows" in page.getvalue()
    assert one.overridden == ("questions (the first 1 of 6)",)
    assert "sums: not all questions (the first 1 of 6)" in page.getvalue()
    assert not [said for said in ("sums*", "not asked as", "not the task's own") if said in page.getvalue()]
    assert "sums: sums.jsonl, sha256" in page.getvalue()


def refused(capsys: pytest.CaptureFixture, *words: str, code: int = 2) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["eval", str(STUDENT), *words])
    assert exit_.value.code == code
    return " ".join(capsys.readouterr().err.split())


def test_the_command_line_says_what_is_wrong_before_a_model_is_loaded(rows: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(HuggingFace, "__init__", lambda *_, **__: pytest.fail("a model was loaded"))
    out = ["--out", str(tmp_path / "out")]
    given = ["--questions", str(rows), *out]
    assert "--questions needs --grade" in refused(capsys, *given)
    assert "write --task NAME" in refused(capsys, *out)
    assert "Did you mean 'exact'" in refused(capsys, *given, "--grade", "exakt")
    assert "there is no such file" in refused(capsys, *given, "--grade", f"python:{tmp_path / 'no.py'}:f")
    assert "Unknown prompt 'chatt'. Did you mean 'chat'" in refused(
        capsys, *given, "--grade", "exact", "--prompt", "chatt"
    )
    monkeypatch.setattr("qtarget.evaluate.grading.judge.FIRST_PATIENCE", 0.1)
    with kept_port() as port:
        judge = ["--grade", "judge", "--judge-url", f"http://127.0.0.1:{port}", "--judge-model", JUDGE]
        assert f"http://127.0.0.1:{port} was away" in refused(capsys, *given, *judge, code=75)
    rows.write_text('{"prompt": "1 + 1 ?"}\n', "utf-8")
    assert "none of its rows has an answer" in refused(capsys, *given, "--grade", "exact")
    assert not (tmp_path / "out").exists()


def test_words_of_a_grader_that_are_no_unicode_are_written_with_backslashes(rows: Path, tmp_path: Path):
    says = "def right(completion, gold, row):\n    raise TypeError('half: \\ud800')\n"
    reads = "def read(completion, gold, row):\n    return True, '\\udfff'\n"
    (tmp_path / "grade.py").write_text(says + reads, "utf-8")
    results = run_evaluation(plan(rows, f"python:{tmp_path / 'grade.py'}:right", limit=1))
    assert any(r"TypeError: half: \ud800" in text for text in results.tasks[0].warnings)
    SafeConsole(file=io.TextIOWrapper(io.BytesIO(), "utf-8"), width=200).print(results_view(results, 200))
    run_evaluation(plan(rows, f"python:{tmp_path / 'grade.py'}:read", limit=1))
    (answers,) = load_answers(rows.parent / "out")
    assert {record.extracted for records in answers.records for record in records} == {r"\udfff"}


def test_the_difference_is_said_of_other_fields_and_of_the_order(rows: Path):
    run_evaluation(plan(rows, limit=None))
    first = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    for changed, said in (
        ([{**first[0], "note": "x"}, *first[1:]], r"question '\w+': .*, field `note` None there, 'x' now"),
        ([first[1], first[0], *first[2:]], r"the same rows in another order: question '\w+' .* there, '\w+' .* now"),
    ):
        rows.write_text("\n".join(map(json.dumps, changed)), "utf-8")
        with pytest.raises(ValueError, match=said):
            run_evaluation(plan(rows))
