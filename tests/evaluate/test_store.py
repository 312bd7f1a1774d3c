"""Samples on disk: what is whole is read back, what was torn is cut, what is damaged is named."""

import json
from dataclasses import asdict, replace

import pytest

from qtarget.disk.files import write_digested_json
from qtarget.evaluate.nouns import Question, Record, SamplingProtocol, TaskFacts, TaskRun
from qtarget.evaluate.store import (
    RUN,
    SAMPLES,
    appending,
    cut_torn_line,
    identity,
    line_of,
    load_answers,
    read_records,
    read_task,
    task_sha,
    write_records,
    write_task,
)

ASKED = TaskRun(
    TaskFacts("tiny", 1, "lab", "lab"),
    SamplingProtocol("plain", k=2),
    (Question("q1", "1 + 1 ?", "2"), Question("q2", "2 ?", "2")),
)


MODEL, GENERATION = {"name": "m", "weights": "w"}, {"version": "1"}


def record(qid="q1", sample=0, **changes) -> Record:
    drawn = identity(MODEL), identity(GENERATION), "grader"
    made = Record("tiny", task_sha(ASKED), qid, sample, 7, "prompt", "answer 2", "stop", 3, "2", 1, "ok", *drawn)
    return replace(made, **changes)


EVERY = [record(qid, sample) for qid in ("q1", "q2") for sample in (0, 1)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / SAMPLES


def test_what_is_appended_is_read_back_whatever_was_written(path):
    odd = "line\nbreak  \u2028 \x00 ¬ \udc80 \U0001f600 \r\n </script>"
    records = [record(completion=odd), record(sample=1, grade=None, grade_reason="timeout", extracted=None)]
    with appending(path) as samples:
        for one in records:
            samples.append(one)
    assert path.read_bytes().count(b"\n") == 2
    assert read_records(path) == records


def test_each_record_is_in_the_file_as_soon_as_it_is_appended(path):
    with appending(path) as samples:
        for count, one in enumerate(EVERY, 1):
            samples.append(one)
            assert len(read_records(path)) == count


def test_a_line_torn_anywhere_is_cut_off_and_only_that_one(path):
    whole, last = b"".join(map(line_of, EVERY[:2])), line_of(EVERY[2])
    for cut in (1, len(last) // 2, len(last) - 1):
        path.write_bytes(whole + last[:cut])
        assert "line 3 was cut off" in cut_torn_line(path)
        assert path.read_bytes() == whole
    assert cut_torn_line(path) is None
    assert cut_torn_line(path.with_name("none")) is None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda line: line[:40] + b"\n", "this is not JSON"),
        (lambda line: b"\x00" * 30 + b"\n", "this is not JSON"),
        (lambda line: b"\xff" + line, "this is not JSON"),
        (lambda line: b"[]\n", "expected an object with the fields of a sample, and got"),
        (lambda line: json.dumps({"qid": "q1"}).encode() + b"\n", "missing \\['completion'"),
        (lambda line: line.replace(b'"grade": 1', b'"grade": 0'), "it holds another sample than was written"),
        (lambda line: line.replace(b"answer 2", b"answer 3"), "it holds another sample than was written"),
        (lambda line: line.replace(b'"check"', b'"chock"'), "missing \\[\\], unknown \\['chock'\\]"),
        (lambda line: line.replace(b'"seed"', b'"sead"'), "missing \\['seed'\\], unknown \\['sead'\\]"),
    ],
)
def test_any_other_damaged_line_is_named_with_its_file(path, damage, said):
    path.write_bytes(line_of(EVERY[0]) + damage(line_of(EVERY[1])) + line_of(EVERY[2]))
    assert cut_torn_line(path) is None
    with pytest.raises(ValueError, match=rf"{SAMPLES}, line 2: {said}"):
        read_records(path)


def test_a_sample_that_stands_twice_is_named(path):
    path.write_bytes(b"".join(map(line_of, [EVERY[0], EVERY[1], EVERY[0]])))
    with pytest.raises(ValueError, match="line 3: sample 0 of question 'q1' stands on line 1 already"):
        read_records(path)


def test_replacing_the_records_leaves_the_old_ones_until_the_new_ones_are_whole(path, monkeypatch):
    write_records(path, EVERY)

    def killed(*_):
        raise OSError(28, "No space left on device")

    for moment in ("os.fsync", "os.replace"):
        with monkeypatch.context() as at:
            at.setattr(moment, killed)
            with pytest.raises(OSError, match="space"):
                write_records(path, EVERY[:1])
        assert read_records(path) == EVERY
    write_records(path, EVERY[:1])
    assert read_records(path) == EVERY[:1]


def written(folder, records):
    write_digested_json(folder / RUN, {"model": MODEL, "generation": GENERATION})
    write_task(folder / "tiny", ASKED)
    write_records(folder / "tiny" / SAMPLES, records)
    return folder


def test_answers_come_by_question_and_sample_whatever_the_order_in_the_file(tmp_path):
    (answers,) = load_answers(written(tmp_path, EVERY[::-1]))
    assert answers.records == ((EVERY[0], EVERY[1]), (EVERY[2], EVERY[3]))
    assert (answers.task, answers.ask, answers.questions) == (ASKED.task, ASKED.ask, ASKED.questions)
    assert answers.model == MODEL


def test_answers_that_are_not_graded_yet_or_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no evaluation"):
        load_answers(tmp_path)
    written(tmp_path, [*EVERY[:3], replace(EVERY[3], grade=None, grade_reason="ungraded")])
    with pytest.raises(ValueError, match="samples of tiny are not all drawn and graded yet"):
        load_answers(tmp_path)
    written(tmp_path, [*EVERY, record("q3")])
    with pytest.raises(ValueError, match=r"samples of questions that task.json does not have: .*q3"):
        load_answers(tmp_path)


def test_files_of_another_task_or_missing_ones_are_named(tmp_path):
    written(tmp_path, [replace(one, task="other") for one in EVERY])
    with pytest.raises(ValueError, match=r"samples of questions that task.json does not have: .*q1"):
        load_answers(tmp_path)
    written(tmp_path, EVERY)
    for name in ("tiny/task.json", RUN):
        (tmp_path / name).unlink()
        with pytest.raises(ValueError, match=rf"{name} is missing; write another --out"):
            load_answers(tmp_path)
        written(tmp_path, EVERY)
    content = (tmp_path / RUN).read_text().replace('"m"', '"n"')
    (tmp_path / RUN).write_text(content)
    with pytest.raises(ValueError, match=r"run.json is damaged"):
        load_answers(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_fp": "another"}, "by another model than run.json names"),
        ({"gen_fp": "another"}, "in another way than run.json says"),
        ({"task_sha": "another"}, "for another task or protocol than task.json has"),
    ],
)
def test_a_sample_of_another_evaluation_is_refused(tmp_path, changes, said):
    written(tmp_path, [*EVERY[:2], replace(EVERY[2], **changes), EVERY[3]])
    with pytest.raises(ValueError, match=rf"tiny/{SAMPLES}: sample 0 of question 'q2' was drawn {said}"):
        load_answers(tmp_path)


def test_a_line_of_a_version_without_checksums_is_read(path):
    values = json.loads(line_of(EVERY[0]))
    del values["check"]
    path.write_text(json.dumps(values) + "\n")
    assert read_records(path) == EVERY[:1]


def test_a_task_is_read_back_as_it_was_asked(tmp_path):
    odd = replace(
        ASKED, questions=(Question("q", "A. x\nB. y", "B", ("x", "y"), "passage"),), remarks=("two rows alike",)
    )
    write_task(tmp_path, odd)
    assert read_task(tmp_path) == odd
    (tmp_path / "task.json").write_text("{")
    with pytest.raises(ValueError, match=r"task.json is damaged"):
        read_task(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, ask=replace(ASKED.ask, temperature=0.5)),
        replace(ASKED, ask=replace(ASKED.ask, prompt="chat")),
        replace(ASKED, task=replace(ASKED.task, version=2)),
        replace(ASKED, questions=ASKED.questions[:1]),
        replace(ASKED, questions=(replace(ASKED.questions[0], gold="3"), ASKED.questions[1])),
    ],
)
def test_protocol_version_and_questions_make_another_task(other):
    assert task_sha(other) != task_sha(ASKED)
    assert task_sha(replace(ASKED, remarks=("a remark",))) == task_sha(ASKED)
    assert asdict(other) != asdict(ASKED)
