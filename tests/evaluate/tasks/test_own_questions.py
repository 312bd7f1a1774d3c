"""A user's own rows: fields found or named, options, ids, and what is wrong with a file said with its row."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from datasets import Dataset

from qtarget.evaluate.tasks import TASKS
from qtarget.evaluate.tasks.find import find_task, find_tasks
from qtarget.evaluate.tasks.lock_file import LOCK_NAME
from qtarget.evaluate.tasks.own_task import OWN_ASK, name_of_file, own_task
from qtarget.evaluate.tasks.own_words import OwnWords, own_tasks_asked
from qtarget.evaluate.tasks.questions import load_questions

ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(4)]


def file_of(folder: Path, *rows: dict | str, name: str = "mine.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def read(path: Path, grade: str = "exact", **words):
    return load_questions(own_task(path, grade, **words), path.parent / LOCK_NAME)


def first(folder: Path, row: dict, grade: str = "exact", **words):
    (question,) = read(file_of(folder, row), grade, **words).questions
    return question


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.json", "mine.csv", "mine.tsv", "mine.parquet", "mine.jsonl.gz"])
def test_every_format_gives_the_same_questions(tmp_path: Path, name: str):
    path = tmp_path / name
    if "csv" in name or "tsv" in name:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter="\t" if "tsv" in name else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    elif "parquet" in name:
        Dataset.from_list(ROWS).to_parquet(path)
    else:
        text = json.dumps(ROWS) if name == "mine.json" else "\n".join(map(json.dumps, ROWS))
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    found = read(path)
    assert [(question.text, question.gold) for question in found.questions] == [tuple(row.values()) for row in ROWS]
    assert found.task.name == "mine"
    assert found.entry.source == name
    assert not (tmp_path / LOCK_NAME).exists()


TURNS = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ada"}]
FIELDS = [
    ({"prompt": "Who?", "completion": "Ada"}, {}), ({"problem": "Who?", "solution": "…", "answer": "Ada"}, {}),
    ({"instruction": "Who?", "output": "Ada", "input": ""}, {}), ({"input": "Who?", "target": "Ada"}, {}),
    ({"messages": TURNS}, {}), ({"messages": TURNS[:1], "answer": "Ada"}, {}), ({"messages": json.dumps(TURNS)}, {}),
    ({"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Ada"}]}, {}),
    ({"prompt": TURNS[:1], "completion": TURNS[1:]}, {}), ({"question": "Who?", "answers": {"text": ["Ada"]}}, {}),
    ({"q": "Who?", "a": "Ada"}, {"question": "q", "answer": "a"}), ({"question": "Who?", "answer": ["Ada"]}, {}),
    ({"question": "Who?", "answer": "She wrote it.\n#### Ada"}, {}),
    ({"Question": "Who?", "ANSWER": "Ada", "ID": "7"}, {}), ({"Messages": TURNS}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("row", "fields"), FIELDS)
def test_fields_are_found_or_named(tmp_path: Path, row: dict, fields: dict):
    question = first(tmp_path, row, fields=fields)
    assert (question.text, question.gold) == ("Who?", "Ada")
    assert json.loads(question.row) == row


def test_headers_of_a_table_with_capitals(tmp_path: Path):
    path = tmp_path / "mine.csv"
    path.write_text("ID,Question,Answer\na,Who?,Ada\n", "utf-8")
    (question,) = read(path).questions
    assert (question.qid, question.text, question.gold) == ("a", "Who?", "Ada")


def test_what_an_answer_may_be(tmp_path: Path):
    assert first(tmp_path, {"question": "?", "answer": 27.0}).gold == "27"
    assert first(tmp_path, {"question": "?", "answer": 5}).gold == "5"
    many = first(tmp_path, {"question": "?", "answer": ["UK", "United Kingdom", "UK"]})
    assert (many.gold, many.accepted) == ("UK", ("United Kingdom",))
    with_input = first(tmp_path, {"instruction": "Add.", "input": "1 and 2", "output": "3"})
    assert with_input.text == "Add.\n\n1 and 2"
    assert first(tmp_path, {"id": 7, "question": "?", "answer": "x"}).qid == "7"
    assert first(tmp_path, {"question": "?", "answer": "x", "g": 3}, fields={"cluster": "g"}).unit == "3"


PASSAGE = {"question": "Who?", "passage": "Ada wrote it.", "answer": "Ada"}
ASKED_WITH = [
    ({"instruction": "Who?", "context": "Ada wrote it.", "response": "Ada"}, {}),
    ({"instruction": "Who?", "input": "Ada wrote it.", "output": "Ada"}, {}),
    (PASSAGE, {"context": "passage"}),
    ({"Instruction": "Who?", "Context": "Ada wrote it.", "Response": "Ada"}, {}),
]


@pytest.mark.parametrize(("row", "fields"), ASKED_WITH)
def test_a_context_is_asked_behind_the_question(tmp_path: Path, row: dict, fields: dict):
    """As training reads the same rows, or where it is named."""
    question = first(tmp_path, row, fields=fields)
    assert (question.text, question.gold) == ("Who?\n\nAda wrote it.", "Ada")


def test_a_row_without_a_context_is_asked_without_one(tmp_path: Path):
    found = read(file_of(tmp_path, PASSAGE, {"question": "Why?", "answer": "x"}), fields={"context": "passage"})
    assert [question.text for question in found.questions] == ["Who?\n\nAda wrote it.", "Why?"]
    with pytest.raises(ValueError, match=r"line 1 has \['Ada'\] for `passage`, where text is expected"):
        first(tmp_path, {**PASSAGE, "passage": ["Ada"]}, fields={"context": "passage"})


LEFT = "not asked: {}; to ask one of them behind the question, write --fields context={}"
UNASKED = [
    (PASSAGE, {}, "exact", (LEFT.format("`passage`", "passage"),)),
    (PASSAGE, {"context": "passage"}, "exact", ()),
    ({"problem": "Who?", "solution": "By Ada.", "answer": "Ada", "level": 5}, {}, "exact",
     (LEFT.format("`solution`", "FIELD"),)),
    ({"id": "a", "question": "Who?", "kind": "x", "context": "Ada.", "answer": "Ada", "hint": " "}, {}, "exact",
     (LEFT.format("`kind`, `context`", "context"),)),
    ({"question": "Who?", "options": ["Ada", "Bob"], "answer": "Ada"}, {}, "exact",
     ("`options` are not shown; to ask which of them is right, write --grade choice",)),
    ({"question": "Who?", "A": "Ada", "B": "Bob", "answer": "A", "topic": "x"}, {}, "choice",
     (LEFT.format("`topic`", "FIELD"),)),
    ({"question": "Who?", "options": ["Ada", "Bob"], "answer": "A", "group": "x"}, {"cluster": "group"}, "choice", ()),
    ({"instruction": "Who?", "input": "Ada.", "output": "Ada", "system": "Be brief."}, {}, "exact",
     (LEFT.format("`system`", "FIELD"),)),
]  # fmt: skip


@pytest.mark.parametrize(("row", "fields", "grade", "remarks"), UNASKED)
def test_what_is_not_asked_is_said_with_the_line_to_write(tmp_path: Path, row, fields, grade, remarks):
    assert read(file_of(tmp_path, row), grade, fields=fields).remarks == remarks


OPTIONS = ["Rome", "Paris", "Bern"]
CHOICES = [
    ({"options": OPTIONS, "answer": "B"}, {}), ({"choices": OPTIONS, "answer": "Paris"}, {}),
    ({"options": {"A": "Rome", "B": "Paris", "C": "Bern"}, "answer": "b"}, {}),
    ({"choices": {"text": OPTIONS, "label": ["A", "B", "C"]}, "answer": "B"}, {}),
    ({"A": "Rome", "B": "Paris", "C": "Bern", "answer": "B"}, {}),
    ({"option_a": "Rome", "option_b": "Paris", "option_c": "Bern", "answer": "B"}, {}),
    ({"Options": OPTIONS, "Answer": "B"}, {}),
    ({"options": OPTIONS, "answer": 1}, {"options_from": "0"}),
    ({"options": OPTIONS, "answer": 2}, {"options_from": "1"}),
    ({"they": OPTIONS, "answer": "2"}, {"options_from": "1", "options": "they"}),
]  # fmt: skip


@pytest.mark.parametrize(("row", "fields"), CHOICES)
def test_options_are_shown_and_the_right_one_is_known(tmp_path: Path, row: dict, fields: dict):
    question = first(tmp_path, {"question": "Where?", **row}, "choice", fields=fields)
    assert question.text == "Where?\nA. Rome\nB. Paris\nC. Bern"
    assert (question.gold, question.options) == ("B", ("Rome", "Paris", "Bern"))


def test_where_numbers_of_options_begin_is_read_off_all_rows(tmp_path: Path):
    def golds(*answers: int) -> list[str]:
        rows = [{"question": f"{n}?", "options": OPTIONS, "answer": answer} for n, answer in enumerate(answers)]
        found = read(file_of(tmp_path, *rows), "choice")
        assert found.remarks == (f"options are numbered from {0 if 0 in answers else 1}",)
        return [question.gold for question in found.questions]

    assert golds(0, 1) == ["A", "B"]
    assert golds(1, 3) == ["A", "C"]
    for unclear in ([1, 2], [0, 3]):
        with pytest.raises(
            ValueError, match=r"whether from 0 or from 1 they do not show; write --fields options_from=0"
        ):
            golds(*unclear)


Q = {"question": "Who?", "answer": "Ada"}
BAD = [
    ([], "exact", r"mine\.jsonl has no rows for mine; .*--questions FILE"),
    ([{"text": "a", "answer": "b"}], "exact",
     r"none of its rows has a question .*they have `text`, `answer`.*--fields question=text"),
    ([{"question": "a", "text": "b"}], "exact", r"none of its rows has an answer .*--fields answer=text$"),
    ([{"question": "a", "id": 1, "said": "b", "anwser": "c"}], "exact", r"Name the field: --fields answer=anwser$"),
    ([{"question": "a", "id": 1, "input": "b"}], "exact", r'no other field could be it: write .*"answer": "…"'),
    ([{"answer": "b", "id": 1}], "exact", r'no other field could be it: write .*"question": "…"'),
    ([Q, {"question": "Why?"}, {"question": "How?", "answer": " "}], "exact",
     r"line 2 has None for `answer`.*1 more row will not do: line 3"),
    ([Q, {"answer": "x"}], "exact", r"line 2 has None for `question`, where the text of a question is expected"),
    ([Q, {"question": "Why?", "answer": True}], "exact", r"line 2 has True for `answer`"),
    ([{"id": 1, **Q}, {"id": 1, "question": "Why?", "answer": "x"}], "exact",
     r"line 1 and line 2 have the same id, '1'"),
    ([{"id": 1, **Q}, Q], "exact", r"line 2 has None for `id`"),
    ([Q, {"question": "Who?", "answer": "Bob"}], "exact", r"line 1 and line 2 ask the same and give other answers"),
    ([{**Q, "answer": ["x", ""]}], "math", "line 1 has an empty answer in the list `answer`"),
    ([Q], "number", r"line 1 has the answer 'Ada', which is not one number"),
    ([{"question": "?", "answer": "(a"}], "regex", r"line 1 has the answer '\(a', which is not a regular expression"),
    ([Q], "choice", r"line 1 has \[\] in columns A, B, …, and no `options`"),
    ([{**Q, "options": ["a", "b"]}], "choice",
     r"line 1 has the answer 'Ada', which names none of its options A. a, B. b"),
    ([{**Q, "answer": "A", "options": ["b", "A"]}], "choice", r"may be more than one of its options"),
    ([{"messages": [*TURNS, *TURNS]}], "exact",
     r"line 1 has a conversation of user, assistant, user, assistant in `messages`"),
    ([{"messages": TURNS[:1]}], "exact", r"line 1 has no answer: nobody replies"),
    (['{"question": "Wh'], "exact", r"mine\.jsonl, line 1, column \d+: this is not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "grade", "said"), BAD)
def test_what_is_wrong_with_rows_is_said_with_the_row(tmp_path: Path, rows: list, grade: str, said: str):
    with pytest.raises(ValueError, match=said):
        read(file_of(tmp_path, *rows), grade)


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path):
    path = file_of(tmp_path, Q)
    with pytest.raises(
        ValueError, match=r"the questions of mein: .*mein\.jsonl is not there; did you mean .*mine\.jsonl"
    ):
        read(tmp_path / "mein.jsonl")
    with pytest.raises(ValueError, match=r"files of rows end in \.jsonl"):
        read(file_of(tmp_path, Q, name="mine.txt"))
    with pytest.raises(ValueError, match=r"a field `qestion` .*did you mean question=question"):
        read(path, fields={"question": "qestion"})
    for part in ("cluster", "options", "context"):
        with pytest.raises(ValueError, match=rf"a field `topic` \(--fields {part}=topic\)"):
            read(path, fields={part: "topic"})
    with pytest.raises(ValueError, match=r"--fields awnser=…: did you mean `answer`"):
        own_task(path, "exact", fields={"awnser": "x"})
    for name in ("math-500", "MATH-500", "Gsm8k"):
        with pytest.raises(ValueError, match=rf"'{name}' is a task of the catalogue.*--questions my-{name}=FILE"):
            own_task(tmp_path / f"{name}.jsonl", "exact")
    assert name_of_file(Path("my own (2).jsonl.gz")) == "my-own-2"
    with pytest.raises(ValueError, match="cannot name a task"):
        own_task(path, "exact", name="../out")


def test_the_same_row_twice_is_one_cluster(tmp_path: Path):
    found = read(file_of(tmp_path, Q, {**Q, "source": "elsewhere"}))
    assert {question.unit for question in found.questions} == {found.questions[0].qid}


def test_a_command_line_names_files_and_graders(tmp_path: Path):
    one, two = file_of(tmp_path, Q), file_of(tmp_path, Q, name="two=2.jsonl")
    tasks = own_tasks_asked(OwnWords([f"first={one}", str(two)], "regex:answer (.*)", ["ignore_case=true"]))
    assert [task.name for task in tasks] == ["first", "two-2"]
    assert tasks[0].settings == {"pattern": "answer (.*)", "ignore_case": True}
    assert tasks[0].ask == OWN_ASK
    assert own_task(one, "math").ask.prompt == "auto-boxed"
    for files in ([str(one), str(one)], [str(one), f"Mine={one}"]):  # one folder, where capitals are the same name
        with pytest.raises(ValueError, match=r"Two tasks are called '[mM]ine'.*--questions NAME=FILE"):
            find_tasks(own_tasks_asked(OwnWords(files, "exact")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"questions": ["x.jsonl"]}, "--questions needs --grade"),
        ({"grade": "exact"}, "--grade: these are of --questions FILE"),
        ({"questions": ["x.jsonl"], "grade": "exakt"}, "Unknown grader 'exakt'. Did you mean 'exact'"),
        ({"questions": ["x.jsonl"], "grade": "python:here"}, "write python:FILE:FUNCTION"),
        ({"questions": ["x.jsonl"], "grade": "judge"}, "write --judge-url http://127.0.0.1:8000 --judge-model NAME"),
        ({"questions": ["x.jsonl"], "grade": "regex:(a"}, "is not a regular expression"),
        ({"questions": ["x.jsonl"], "grade": "number", "grade_option": ["tolerence=1", "relative=x"]},
         r"no setting `tolerence` \(did you mean `tolerance`\?\); `relative=x`: .*valid number"),
        ({"questions": ["x.jsonl"], "grade": "number", "grade_option": ["tolerance"]},
         "write --grade-option tolerance=0.01"),
        ({"questions": ["x.jsonl"], "grade": "python"}, "it needs `file`; it needs `function`"),
        ({"questions": ["x.jsonl"], "grade": "exact:x"}, "Unknown grader 'exact:x'"),
    ],
)  # fmt: skip
def test_words_that_will_not_do(words: dict, said: str):
    with pytest.raises(ValueError, match=said):
        own_tasks_asked(OwnWords(**words))


TASK_FILE = """
name: sums
rows: mine.jsonl
fields: {question: question, answer: answer}
prompt: "{question}\\nSay it in a word."
grader: {name: number, tolerance: 0.5}
protocol: {k: 2, temperature: 0.7, top_p: 0.95, max_new_tokens: 64}
"""


def test_a_task_file(tmp_path: Path):
    file_of(tmp_path, *ROWS)
    path = tmp_path / "sums.yaml"
    path.write_text(TASK_FILE, "utf-8")
    task = find_task(str(path))
    assert find_task(path).settings == {"tolerance": 0.5}
    assert (task.name, task.grader, task.ask.k, task.ask.top_p) == ("sums", "number", 2, 0.95)
    assert task.ask.prompt == "{question}\nSay it in a word."
    assert len(load_questions(task, tmp_path / LOCK_NAME).questions) == 4
    assert find_task(task) is task
    path.write_text("rows: mine.jsonl\ngrader: python:grade.py:right\n", "utf-8")
    task = find_task(str(path))
    assert task.settings == {"file": str(tmp_path / "grade.py"), "function": "right"}
    assert (task.name, task.ask) == ("sums", OWN_ASK)


def test_every_mistake_in_a_task_file_is_said_at_once(tmp_path: Path):
    path = tmp_path / "sums.yaml"
    path.write_text(
        "row: mine.jsonl\nk: 4\nname: 3\nprotocol: {temprature: 1, k: four, top_p: 2}\nfields: {awnser: a}\n", "utf-8"
    )
    with pytest.raises(ValueError, match="does not describe a task") as error:
        find_task(str(path))
    said = str(error.value)
    assert "line 1: unknown key `row`; did you mean `rows`?" in said
    assert "line 2: unknown key `k`; it stands inside `protocol:`." in said
    assert "`rows` is missing" in said
    assert "`grader` is missing" in said
    assert "line 3: `name: 3`: Input should be a valid string" in said
    assert "line 4, in `protocol`: unknown key `temprature`; did you mean `temperature`?" in said
    assert "line 4, in `protocol`: `k: four`: Input should be a valid integer" in said
    assert "line 5, in `fields`: unknown key `awnser`; did you mean `answer`?" in said
    path.write_text("rows: a.jsonl\ngrader: {name: regex, patern: x}\nprotocol: {k: 0}\n", "utf-8")
    with pytest.raises(ValueError, match=r"line 3, in `protocol`: k=0 was given"):
        find_task(str(path))
    path.write_text("rows: a.jsonl\ngrader: {name: regex, patern: x}\n", "utf-8")
    with pytest.raises(
        ValueError, match=r"sums\.yaml: The grader 'regex' .*no setting `patern` \(did you mean `pattern`"
    ):
        find_task(str(path))
    with pytest.raises(ValueError, match=r"a file of rows, and --task names a task; write --questions mine\.jsonl"):
        find_task("mine.jsonl")
    with pytest.raises(ValueError, match=r"the task file .*sumz\.yaml is not there; did you mean"):
        find_task(str(tmp_path / "sumz.yaml"))


def test_own_rows_pin_no_public_task(tmp_path: Path):
    """`--rows TASK=FILE` is checked against the lock, and never written down in it."""
    rows = [{"id": n, "problem": f"What is {n}?", "answer": str(n)} for n in range(30)]
    lock, path = tmp_path / LOCK_NAME, file_of(tmp_path, *rows)
    assert len(load_questions(TASKS["aime24"], lock, path).questions) == 30
    assert not lock.exists()
    other = file_of(tmp_path, *rows[:3], name="other.jsonl")
    assert len(load_questions(TASKS["aime24"], lock, other).questions) == 3


NUMBERED = [
    # options and answer of each row, and the letters
    ([([4, 3, 2, 1], 4), ([1, 2, 3, 4], 1)], 'line 1 has the answer 4 in `answer`, which is the text of A and the num'
     'ber of D .*write the letter of the right one, as in "answer": "A", or, .*options_from=0'),
    ([(["2", "1", "0"], 2)], "the text of A and the number of B or C"),
    ([(["2", "1", "0"], 2.0)], "the text of A and the number of B or C"),
    ([(["x", "y", "z"], "0"), (["x", "y", "z"], "2"), (["2", "1", "0"], "2")], "line 3 .*of A and the number of C"),
    ([([1, 2, 3, 4], 0), ([4, 3, 2, 1], 3)], "line 2 .*text of B and the number of D"),
    ([([1, 2, 3], 1), ([1, 2, 3], 2)], "line 1 .*text of A and the number of B"),
    ([(["2", "1", "0"], "2")], ["A"]), ([([10, 20], 20)], ["B"]), ([([2.0, 4.0], 4)], ["B"]),
    ([([0, 1, 2], 2), ([0, 1, 2], 0)], ["C", "A"]), ([([1, 2, 3], 1), ([1, 2, 3], 3)], ["A", "C"]),
    ([(["x", "y"], ["B"])], ["B"]), ([(["x", "y"], ["y", "B"])], ["B"]),
    ([(["x", "y"], ["A", "B"])], 'which are 2 of its options, and a choice is of one; write .*"answer": "A"'),
]  # fmt: skip


@pytest.mark.parametrize(("rows", "expected"), NUMBERED)
def test_a_number_that_may_be_two_options_is_refused(tmp_path: Path, rows: list, expected: list | str):
    file = file_of(
        tmp_path,
        *[{"question": f"{n}?", "options": options, "answer": answer} for n, (options, answer) in enumerate(rows)],
    )
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            read(file, "choice")
    else:
        assert [question.gold for question in read(file, "choice").questions] == expected


def test_numbers_are_those_of_options_where_it_is_said(tmp_path: Path):
    row = {"question": "?", "options": ["2", "1", "0"]}
    for answer in (2, "2"):
        assert first(tmp_path, {**row, "answer": answer}, "choice", fields={"options_from": "0"}).gold == "C"
    assert first(tmp_path, {**row, "answer": 2}, "choice", fields={"options_from": "1"}).gold == "B"


@pytest.mark.parametrize("grade", ["lab", "reasoning-gym"])
def test_graders_of_tasks_of_the_catalogue_are_not_for_own_questions(tmp_path: Path, grade: str):
    path = file_of(tmp_path, Q)
    said = rf"{grade!r} grades the tasks of that name alone; .*Write one of: math, choice, exact, .*python:FILE"
    with pytest.raises(ValueError, match=said):
        own_task(path, grade)
    (tmp_path / "task.yaml").write_text(f"rows: mine.jsonl\ngrader: {{name: {grade}}}\n", "utf-8")
    with pytest.raises(ValueError, match=said):
        find_task(str(tmp_path / "task.yaml"))
    with pytest.raises(ValueError, match=r"Unknown grader 'labb'\. (?!.*'lab')"):
        own_task(path, "labb")
