"""`qtarget answers`: the order of questions and samples, two runs side by side, hostile text in answers, the page."""

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import get_args

import pytest
from evaluate.answered import answers, write_folder
from job.command import run as command
from rich.cells import cell_len

from qtarget.console import COMMANDING, SafeConsole, visible
from qtarget.evaluate.browse.answers_page import answers_page
from qtarget.evaluate.browse.question_answers import read_questions
from qtarget.evaluate.browse.verdict_words import PLACE_WORDS, REASON_WORDS
from qtarget.evaluate.browse.view import answers_view
from qtarget.evaluate.nouns import Reason

HOSTILE = (
    "<script>alert(1)</script>",
    "</pre></article><img src=x onerror=alert(1)>",
    "</style><script src=//evil.example/x.js></script>",
    '" onmouseover="alert(1)',
    "<svg/onload=alert(1)><iframe src=javascript:alert(1)>",
    "<a href=https://evil.example>&lt;b&gt; &amp;amp; <!-- -->",
    "\u202egnp.exe\u202c \u2066isolated\u2069",
    "\x1b[2J\x1b]0;title\x07 \x9b31m \x08\x08 \x00 \ud800",
    "]]><?xml ?><meta http-equiv=refresh content=0;url=//evil.example>",
    "[red]rich[/red] :smile: {{7*7}} ${7*7}",
)


def graded(grades, task="t", **changes):
    """Answers with these grades: [Q][k] of 1, 0 or None."""
    made = answers([0.5] * len(grades), task=task, k=len(grades[0]))
    reasons = {1: "ok", 0: "ok", None: "timeout"}
    records = tuple(
        tuple(replace(r, grade=g, grade_reason=reasons[g], **changes) for r, g in zip(own, row, strict=True))
        for own, row in zip(made.records, grades, strict=True)
    )
    return replace(made, records=records)


@pytest.fixture
def one(tmp_path):
    return write_folder(tmp_path / "one", graded([[1, 1], [0, 1], [0, None], [0, 0]]))


@pytest.fixture
def two(tmp_path):
    return write_folder(tmp_path / "two", graded([[0, 0], [0, 1], [1, None], [0, 0]]))


def order(report):
    return [question.question.qid for question in report.questions]


def shown(report, width=80, **how):
    file = io.StringIO()
    SafeConsole(file=file, width=width).print(answers_view(report, width, **how))
    return file.getvalue()


def test_wrong_questions_and_samples_come_first(one):
    report = read_questions([one])
    assert order(report) == ["q2", "q3", "q1", "q0"]
    assert [pair.words for pair in report.questions[2].pairs] == [["wrong"], ["right"]]
    assert [pair.words for pair in report.questions[0].pairs] == [["wrong"], ["unknown"]]
    assert report.runs[0].scores == ("t: 37.5 % right, 4 questions × 2",)


def test_of_two_runs_those_questions_come_first_where_one_is_right_and_the_other_wrong(one, two):
    report = read_questions([one, two])
    assert order(report) == ["q0", "q2", "q3", "q1"]
    assert [pair.words for pair in report.questions[1].pairs] == [["wrong", "right"], ["unknown", "unknown"]]
    text = shown(report)
    assert text.index("q0  t, 2 of 2 and 0 of 2 right") < text.index("q2  t, 0 of 2 and 1 of 2 right")
    line = next(line for line in text.splitlines() if "sample 0: right" in line)
    assert "sample 0: wrong" in line


@pytest.mark.parametrize(
    ("only", "folders", "found"),
    [
        ("wrong", 1, {"q1": 1, "q2": 1, "q3": 2}),
        ("right", 1, {"q0": 2, "q1": 1}),
        ("unknown", 1, {"q2": 1}),
        ("differ", 2, {"q0": 2, "q2": 1}),
        ("right", 2, {"q0": 2, "q1": 1, "q2": 1}),
    ],
)
def test_only_the_samples_that_are_asked_for(one, two, only, folders, found):
    report = read_questions([one, two][:folders], only=only)
    assert {question.question.qid: len(question.pairs) for question in report.questions} == found
    assert report.total == len(found)


def test_tasks_and_limits(tmp_path):
    folder = write_folder(tmp_path / "run", graded([[0], [1]], "a"), graded([[1], [0]], "b"))
    assert [(q.task, q.question.qid) for q in read_questions([folder], limit=2).questions] == [("a", "q0"), ("b", "q1")]
    only_b = read_questions([folder], ["b"])
    assert {question.task for question in only_b.questions} == {"b"}
    assert "1 of 2 questions; --limit 2 shows all" in shown(read_questions([folder], ["b"], limit=1))
    other = write_folder(tmp_path / "other", graded([[0], [1]], "b"))
    assert {question.task for question in read_questions([folder, other]).questions} == {"b"}


def test_a_run_that_is_still_going_on_can_be_read(tmp_path):
    made = graded([[0, 1], [1, 1]])
    records = (tuple(replace(r, grade=None, grade_reason="ungraded") for r in made.records[0]), made.records[1][:1])
    folder = write_folder(tmp_path / "run", replace(made, records=records))
    with (folder / "t" / "samples.jsonl").open("ab") as samples:
        samples.write(b'{"task": "t", "comp')  # the next sample is being written
    report = read_questions([folder])
    assert "1 samples not drawn yet" in report.runs[0].scores[0]
    assert "unknown, not graded yet" in shown(report)


def test_every_reason_has_words():
    assert {*REASON_WORDS, *PLACE_WORDS} == {*get_args(Reason), "ungraded"}


def test_a_verdict_says_where_the_answer_stood_and_what_the_grader_noted(tmp_path):
    made = graded([[0], [None], [0], [1]])
    changes = (
        {"grade_reason": "boxed", "extracted": "41"},
        {"grade_reason": "grader_failed", "extracted": None, "grade_note": "ZeroDivisionError: \x1b[2J" + "z" * 400},
        {"grade_reason": "several", "extracted": None},
        {"grade_reason": "ok", "completion": " so 7 \n", "extracted": "so 7"},
    )
    records = tuple((replace(own[0], **new),) for own, new in zip(made.records, changes, strict=True))
    questions = (replace(made.questions[0], accepted=("seven", "VII")), *made.questions[1:])
    report = read_questions([write_folder(tmp_path / "run", replace(made, records=records, questions=questions))])
    text = " ".join(shown(report).split())
    assert "sample 0: wrong, answer read in the last box: 41; " in text
    assert "sample 0: unknown, the grader failed; " in text
    assert "sample 0: wrong, more than one answer; " in text
    assert "sample 0: right, answer read: all of it; " in text
    assert "note: ZeroDivisionError: \\x1b[2Jzzz" in text
    assert "gold: 0, or seven, or VII" in text
    assert shown(report, full=True).count("z") >= 400 > shown(report).count("z")
    page = answers_page(report)
    assert "note: <bdi>ZeroDivisionError: \\x1b[2Jzzz" in page
    assert "gold: <bdi>0</bdi>, or <bdi>seven</bdi>, or <bdi>VII</bdi>" in page


def test_rows_that_changed_beside_the_question_do_not_part_two_runs(tmp_path):
    made = graded([[1, 1]])
    runs = [replace(made, questions=(replace(made.questions[0], row=row),)) for row in ('{"a": 1}', '{"a": 2}')]
    folders = [write_folder(tmp_path / str(place), run) for place, run in enumerate(runs)]
    assert order(read_questions(folders)) == ["q0"]


def test_what_two_runs_were_not_both_asked_is_said(tmp_path, one):
    made = graded([[1, 1], [0, 1], [0, 0]])
    other = write_folder(tmp_path / "other", replace(made, ask=replace(made.ask, max_new_tokens=7)))
    assert read_questions([one, other]).remarks == (
        "t: 1 questions that only one of the runs was asked are left out",
        "t was not asked alike: max_new_tokens 4096 and 7",
    )


def test_what_cannot_be_shown_is_refused(tmp_path, one, capsys):
    lacks = write_folder(tmp_path / "lacks", graded([[0, 1]], "other"))
    changed = graded([[1, 1]])
    changed = replace(changed, questions=(replace(changed.questions[0], gold="9"),))
    differs = write_folder(tmp_path / "differs", changed)
    cases = [
        ((one, "--only", "differ"), "write qtarget answers RUN RUN2 --only differ"),
        ((one, "--only", "rong"), "write --only wrong, right, unknown or differ"),
        ((one, "--limit", "0"), "write --limit 1"),
        ((one, "--task", "math"), "has no answers to 'math'; it has: t"),
        ((one, lacks), "no task in common"),
        ((one, differs), "Question 'q0' of t has another text, gold or options"),
        ((tmp_path,), "holds no evaluation"),
        ((one, "--page", tmp_path / "x.txt"), "x.html"),
        ((one, "--page", one / "run.json" / "x.html"), "run.json is a file; write `--page"),
    ]
    for words, said in cases:
        ended = command(capsys, "answers", *map(str, words))
        assert ended.code == 2, words
        assert said in " ".join(ended.err.split()), words
        assert not ended.out


def hostile_run(folder):
    made = graded([[0], [1], [None]] + [[0]] * (len(HOSTILE) - 3))
    records = tuple(
        (replace(own[0], completion=f"{text}\n{text}", extracted=text),)
        for own, text in zip(made.records, HOSTILE, strict=True)
    )
    texts = [text.replace("\ud800", "") for text in HOSTILE]  # a task's file is UTF-8; samples may hold anything
    questions = tuple(replace(q, text=text, gold=text) for q, text in zip(made.questions, texts, strict=True))
    return write_folder(folder, replace(made, records=records, questions=questions))


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_hostile_answers_never_reach_the_terminal_raw(tmp_path, both, full):
    folder = hostile_run(tmp_path / "run")
    text = shown(read_questions([folder, folder] if both else [folder]), full=full)
    assert not COMMANDING.search(text.replace("\n", ""))
    assert max(map(cell_len, text.splitlines())) <= 80
    squeezed = re.sub(r"\s", "", text)
    for hostile in HOSTILE if not both else ():
        assert re.sub(r"\s", "", visible(hostile)) in squeezed


TAGS = """html head meta title style body header h1 div strong br p fieldset legend label input main article h2 span pre
    bdi details summary"""
ATTRIBUTES = "lang charset http-equiv content name class type id checked dir open"


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, and the text of each `pre`."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.inside = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "pre":
            self.texts.append("")
        if tag not in ("meta", "br", "input"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        if self.inside[-1:] == ["pre"]:
            self.texts[-1] += data


@pytest.mark.parametrize("both", [False, True])
def test_the_page_runs_and_fetches_nothing_whatever_a_model_wrote(tmp_path, both):
    folder = hostile_run(tmp_path / "run")
    text = answers_page(read_questions([folder, folder] if both else [folder]))
    page = Page(text)
    assert page.inside == []
    assert {tag for tag, _ in page.tags} <= set(TAGS.split())
    names = {name for _, attributes in page.tags for name in attributes}
    assert names <= set(ATTRIBUTES.split())
    assert not COMMANDING.search(text.replace("\n", ""))
    for hostile in HOSTILE:
        assert visible(hostile.replace("\ud800", "")) in page.texts
        assert visible(f"{hostile}\n{hostile}") in page.texts
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [a["content"] for _, a in page.tags if a.get("http-equiv")]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in style
    assert "@import" not in style


def test_the_command_prints_writes_a_page_and_json(one, two, tmp_path, capsys):
    said = command(capsys, "answers", str(one), str(two), "--only", "differ")
    assert said.code == 0
    assert "2 questions" in said.out
    page = tmp_path / "new" / "answers.html"
    assert command(capsys, "answers", str(one), str(two), "--page", str(page)).code == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<article") == 4
    assert text.count('class="sample ') == 16
    found = json.loads(command(capsys, "answers", str(one), "--json", "--limit", "1").out)
    assert found["questions"][0]["question"]["qid"] == "q2"
    assert found["total"] == 4
