"""Rows of tasks: read from files whole, held to the lock file, refused with what to do."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from evaluate.local_hub import COMMIT, local_hub

from qtarget.data.json_lines import read_json
from qtarget.evaluate.nouns import Question, QuestionSet
from qtarget.evaluate.tasks import TASKS, task
from qtarget.evaluate.tasks.hub import Download
from qtarget.evaluate.tasks.lock_file import LOCK_NAME, questions_sha256, read_lock
from qtarget.evaluate.tasks.questions import distinct, load_questions, parse_rows, sample_rows

AIME = task("aime24")
ROWS = [{"id": n, "problem": f"What is {n}?", "answer": str(n)} for n in range(30)]
FIRST, SECOND = "1" * 40, "2" * 40


class Hub:
    """A data set whose newest commit may move, and what it was asked for."""

    def __init__(self, rows: list[dict], commit: str = FIRST):
        self.commits = {commit: rows}
        self.newest = commit
        self.asked: list[str | None] = []

    def move(self, rows: list[dict], commit: str = SECOND) -> None:
        self.commits[commit], self.newest = rows, commit

    def __call__(self, asked_task, commit: str | None) -> Download:
        self.asked.append(commit)
        return Download(commit or self.newest, self.commits[commit or self.newest])


@pytest.fixture
def lock(tmp_path) -> Path:
    return tmp_path / "out" / LOCK_NAME


def write(folder: Path, text: str, name: str = "rows.jsonl") -> Path:
    (folder / name).write_bytes(text.encode())
    return folder / name


def lines(rows: list[dict]) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def test_the_first_download_writes_down_what_it_found(lock: Path):
    found = load_questions(AIME, lock, download=Hub(ROWS))
    written = json.loads(lock.read_text())["tasks"]
    assert written == {
        "aime24": {
            "source": "HuggingFaceH4/aime_2024",
            "revision": FIRST,
            "rows": 30,
            "sha256": questions_sha256(found.questions),
            "task_version": 1,
        }
    }
    assert (len(found.questions), found.remarks) == (30, ())


def test_afterwards_the_commit_that_was_found_is_downloaded_though_the_hub_moved(lock: Path):
    hub = Hub(ROWS)
    before = load_questions(AIME, lock, download=hub)
    hub.move([{**row, "answer": "0"} for row in ROWS])
    assert load_questions(AIME, lock, download=hub) == before
    assert hub.asked == [None, FIRST]


def test_rows_that_changed_are_an_error_that_names_old_and_new(lock: Path):
    hub = Hub(ROWS)
    old = load_questions(AIME, lock, download=hub).entry.sha256
    hub.commits[FIRST] = [*ROWS[:-1], {**ROWS[-1], "answer": "0"}]
    before = lock.read_text()
    with pytest.raises(ValueError, match="The rows of aime24 are not those of") as refusal:
        load_questions(AIME, lock, download=hub)
    assert f"locked: 30 rows of HuggingFaceH4/aime_2024 at {FIRST}, sha256 {old}" in str(refusal.value)
    assert f"now:    30 rows of HuggingFaceH4/aime_2024 at {FIRST}, sha256 " in str(refusal.value)
    assert str(refusal.value).count(old) == 1
    assert "delete `aime24`" in str(refusal.value)
    assert lock.read_text() == before


def test_a_task_that_reads_rows_in_another_way_says_so(lock: Path):
    hub = Hub(ROWS)
    load_questions(AIME, lock, download=hub)

    def otherwise(rows) -> QuestionSet:
        return QuestionSet([replace(question, gold="0") for question in AIME.read(rows).questions])

    with pytest.raises(ValueError, match="Version 2 of the task reads rows in another way than version 1"):
        load_questions(replace(AIME, version=2, read=otherwise), lock, download=hub)


def test_a_file_with_the_same_questions_meets_the_lock_and_another_does_not(lock: Path, tmp_path):
    load_questions(AIME, lock, download=Hub(ROWS))
    same = [{"question": row["problem"], "answer": row["answer"], "id": row["id"], "url": "x"} for row in ROWS]
    assert load_questions(AIME, lock, write(tmp_path, lines(same))).entry.source == "rows.jsonl"
    with pytest.raises(ValueError, match=r"now:    29 rows of rows\.jsonl, sha256"):
        load_questions(AIME, lock, write(tmp_path, lines(same[:-1])))


def test_order_is_part_of_the_rows(lock: Path):
    hub = Hub(ROWS)
    load_questions(AIME, lock, download=hub)
    hub.commits[FIRST] = ROWS[::-1]
    with pytest.raises(ValueError, match="are not those of"):
        load_questions(AIME, lock, download=hub)


def test_rows_made_here_are_held_to_the_lock_too(lock: Path):
    one = task("lab-weak-operator")
    load_questions(one, lock)
    other = replace(one, source=replace(one.source, make=lambda: one.source.make()[::-1]))
    with pytest.raises(ValueError, match="now:    120 rows of made here, sha256"):
        load_questions(other, lock)


def test_tasks_stand_beside_one_another_in_the_lock(lock: Path):
    for name, rows in (("aime24", ROWS), ("gpqa", read_json(sample_rows(TASKS["gpqa"]))), ("lab-weak-operator", [])):
        load_questions(TASKS[name], lock, download=Hub(rows))
    assert list(read_lock(lock)) == ["aime24", "gpqa", "lab-weak-operator"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1, "tasks": {"aime24": {"rows": 1}}}', '{"format": 2}'])
def test_a_damaged_lock_is_an_error_not_a_new_lock(lock: Path, text: str):
    lock.parent.mkdir()
    lock.write_text(text)
    with pytest.raises(ValueError, match=r"cannot be read: .*Restore it, or delete it"):
        load_questions(AIME, lock, download=Hub(ROWS))
    assert lock.read_text() == text


def test_a_published_count_that_the_hub_does_not_give_is_an_error(lock: Path):
    with pytest.raises(ValueError, match="gives 29 questions, and the published aime24 has 30"):
        load_questions(AIME, lock, download=Hub(ROWS[:-1]))
    assert not lock.exists()


def test_of_a_file_it_is_a_remark(lock: Path, tmp_path):
    found = load_questions(AIME, lock, write(tmp_path, lines(ROWS[:4])))
    assert found.remarks == ("rows.jsonl gives 4 questions, and the published aime24 has 30",)


def test_a_byte_order_mark_windows_lines_and_a_last_line_without_end_lose_nothing(lock: Path, tmp_path):
    text = "\ufeff" + lines(ROWS).replace("\n", "\r\n")
    assert not text.endswith("\n")
    found = load_questions(AIME, lock, write(tmp_path, text))
    assert [question.gold for question in found.questions] == [row["answer"] for row in ROWS]
    assert load_questions(AIME, lock, write(tmp_path, json.dumps(ROWS))).questions == found.questions


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (lines(ROWS[:2]) + '\n{"id": 3, "problem": "Wha', r"rows\.jsonl, line 3, column \d+: this is not JSON"),
        (lines(ROWS[:2]) + "\n[1]", "line 3: a row is an object"),
        (lines([*ROWS[:2], {"id": 3, "answer": "3"}]), r"aime24, rows.jsonl: Row 3 has no `problem` or `question`"),
        ("\n", "rows.jsonl has no rows for aime24"),
        (lines([ROWS[1], {**ROWS[1], "answer": "0"}]), "two different questions are named '1'"),
    ],
)
def test_rows_that_cannot_be_read_are_named_and_nothing_is_locked(lock: Path, tmp_path, text: str, said: str):
    with pytest.raises(ValueError, match=said):
        load_questions(AIME, lock, write(tmp_path, text))
    assert not lock.exists()


def test_a_missing_file_is_named(lock: Path):
    with pytest.raises(ValueError, match=r"--rows aime24=nowhere\.jsonl: there is no such file"):
        load_questions(AIME, lock, Path("nowhere.jsonl"))


def test_rows_said_twice_become_one_cluster():
    one, two = Question("a", "What?", "1"), Question("b", "Who?", "2")
    reading = distinct(QuestionSet([one, two, one], ("before",)))
    assert [(question.qid, question.unit) for question in reading.questions] == [("a", "a"), ("b", "b"), ("a~2", "a")]
    assert reading.remarks == ("before", "1 rows say again what an earlier one says: a")


def test_files_are_given_by_task():
    assert parse_rows(["a=x.jsonl", "b=/y=z.jsonl"]) == {"a": Path("x.jsonl"), "b": Path("/y=z.jsonl")}
    for wrong in (["a"], ["a="], ["a=x", "a=y"]):
        with pytest.raises(ValueError, match="--rows"):
            parse_rows(wrong)


def test_without_network_a_file_is_what_to_give(lock: Path):
    with pytest.raises(ValueError, match=r"could not be downloaded .*\n.*--rows aime24=FILE.jsonl"):
        load_questions(AIME, lock)
    assert not lock.exists()


@pytest.mark.parametrize(
    ("name", "said"), [("gpqa", "is gated: .*`hf auth login`.*--rows gpqa=FILE.jsonl"), ("aime24", "has no data set")]
)
def test_a_set_that_may_not_be_read_says_how_to_get_access(
    name: str, said: str, lock: Path, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    with local_hub(monkeypatch, tmp_path, {}, gated="Idavidrein/gpqa"), pytest.raises(ValueError, match=said):
        load_questions(task(name), lock)
    assert not lock.exists()


def test_files_of_a_data_set_are_downloaded_at_the_commit_that_was_found(
    lock: Path, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    one = task("medbullets")
    rows = sample_rows(one).read_text().splitlines()
    four, five = (f"{one.source.hub}/{name}" for name in one.source.files)
    halves = {four: "\n".join(rows[:2]), five: "\n".join(rows[2:])}
    with local_hub(monkeypatch, tmp_path, halves) as asked:
        found = load_questions(one, lock)
        assert f"/api/datasets/{one.source.hub}/revision/main" in asked[0]
        again = load_questions(one, lock)
    assert found == again
    assert (found.entry.revision, len(found.questions)) == (COMMIT, 4)
    assert found.questions == load_questions(one, tmp_path / "other.json", sample_rows(one)).questions
    assert all(f"/resolve/{COMMIT}/" in path for path in asked[1:])
