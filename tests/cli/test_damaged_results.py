"""Results of earlier runs that were half written or changed: words, exit code 2, and the file stays as it is."""

import json
from pathlib import Path

import pytest
from job.command import run as command

from qtarget.evaluate.nouns import Question, SamplingProtocol, TaskFacts, TaskRun
from qtarget.evaluate.store import RUN, SAMPLES, TASK, identity, load_answers, task_sha
from qtarget.recipes.recipe_files import recipe

MODEL, GENERATION = {"name": "m", "weights": "w"}, {"engine": "e"}
NAME = "openr1-15k-qwen3-1.7b"
HALVES = {
    "empty": "",
    "half": '{"versions": 1, "arms": [1, ',
    "deep": "[" * 100_000,
    "another type": "[]",
    "binary": "\x00\x01",
    "no arms": json.dumps({"versions": recipe(NAME).versions, "dry_run": True}),
    "arms of another type": json.dumps({"versions": recipe(NAME).versions, "dry_run": True, "arms": [3]}),
    "other values than were written": json.dumps(
        {"versions": recipe(NAME).versions, "dry_run": True, "arms": [], "content_sha256": "0" * 64}
    ),
    "arms of another recipe": json.dumps({"recipe": "x", "versions": {}, "dry_run": True, "arms": []}),
    "arms of another release": json.dumps(
        {"versions": recipe(NAME).versions, "dry_run": True, "arms": [{"arm": "base"}]}
    ),
}


@pytest.mark.parametrize("case", HALVES)
def test_the_results_of_recipes(capsys, tmp_path, case):
    path = tmp_path / NAME / "results.json"
    path.parent.mkdir()
    path.write_text(HALVES[case])
    said = command(capsys, "recipes", "run", NAME, "--dry-run", "--out", str(tmp_path))
    assert (said.code, "Traceback" in said.err) == (2, False)
    assert f"{path} is damaged" in said.err
    assert "delete it; arms that are finished are read again" in said.err
    assert path.read_text() == HALVES[case]
    assert [entry.name for entry in tmp_path.rglob("*")] == [NAME, "results.json"]


@pytest.mark.parametrize("case", ["empty", "half", "deep", "another type", "no arms"])
def test_the_results_of_the_study(capsys, tmp_path, case):
    path = tmp_path / "results" / "a-setting" / "sft-test-0.json"
    path.parent.mkdir(parents=True)
    path.write_text(HALVES[case])
    said = command(
        capsys, "study", "--quick", "--results", str(tmp_path / "results"), "--models", str(tmp_path / "models")
    )
    assert (said.code, "Traceback" in said.err) == (2, False)
    assert f"{path} is " in said.err
    assert ("is no outcome of a study" if case == "no arms" else "is damaged; remove it") in said.err
    assert path.read_text() == HALVES[case]


@pytest.fixture
def evaluation(tmp_path) -> Path:
    """The files of an evaluation with one sample."""
    ask = {"prompt": "plain", "k": 1}
    question = {"qid": "q", "text": "1 + 1", "gold": "2"}
    sha = task_sha(TaskRun(TaskFacts("t", 1, "lab", "lab"), SamplingProtocol(**ask), (Question(**question),)))
    record = {
        "task": "t", "task_sha": sha, "qid": "q", "sample_i": 0, "seed": 1, "prompt_ids_sha256": "p",
        "completion": "2", "finish_reason": "stop", "n_tokens": 3, "extracted": "2", "grade": 1,
        "grade_reason": "right", "model_fp": identity(MODEL), "gen_fp": identity(GENERATION), "grader_fp": "r",
    }  # fmt: skip
    task = {
        "task": {"name": "t", "version": 1, "suite": "lab", "grader": "lab"}, "ask": ask, "rows": "", "remarks": [],
        "overridden": [], "questions": [{**question, "options": []}],
    }  # fmt: skip
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / TASK).write_text(json.dumps(task))
    (tmp_path / "t" / SAMPLES).write_text(json.dumps(record) + "\n")
    (tmp_path / RUN).write_text(json.dumps({"model": MODEL, "generation": GENERATION}))
    assert len(load_answers(tmp_path)[0].records) == 1
    return tmp_path


@pytest.mark.parametrize("name", [RUN, f"t/{TASK}", f"t/{SAMPLES}"])
@pytest.mark.parametrize("content", ["", "{}", "[" * 100_000, '{"model": 1, "task": 2, "questions": 3}', "\x00"])
def test_the_files_of_an_evaluation(capsys, evaluation, name, content):
    path = evaluation / name
    path.write_text(content + "\n")
    said = command(capsys, "compare", str(evaluation), f"other={evaluation}")
    assert (said.code, "Traceback" in said.err) == (2, False)
    assert str(path) in said.err
    assert path.read_text() == content + "\n"


@pytest.mark.parametrize(
    ("field", "value"), [("n_tokens", "3"), ("grade", "1"), ("completion", None), ("sample_i", [])]
)
def test_a_sample_of_another_type(capsys, evaluation, field, value):
    path = evaluation / "t" / SAMPLES
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}) + "\n")
    said = command(capsys, "compare", str(evaluation), f"other={evaluation}")
    assert said.code == 2
    assert f"{path}, line 1: {field} of another type" in said.err


def test_effects_of_another_type(capsys, evaluation):
    (evaluation / "effects.json").write_text('{"calibration": 3}')
    said = command(capsys, "compare", str(evaluation), f"other={evaluation}")
    assert said.code == 2
    assert "effects.json is damaged" in said.err


@pytest.mark.parametrize(
    "words",
    [
        ("compare", "{there}", "other={there}", "--out", "{file}"),
        ("recipes", "run", NAME, "--dry-run", "--out", "{file}"),
        ("demo", "--quick", "--out", "{file}/below"),
        ("lab", "build", "--out", "{file}"),
        ("study", "--quick", "--results", "{file}"),
        ("study", "--quick", "--models", "{file}"),
        ("eval", "m", "--task", "aime24", "--out", "{file}"),
    ],
)
def test_a_file_where_a_folder_is_to_be_written(capsys, evaluation, words):
    file = evaluation / "file"
    file.write_text("mine")
    said = command(capsys, *(word.format(there=evaluation, file=file) for word in words))
    assert (said.code, "Traceback" in said.err, "Errno" in said.err) == (2, False, False)
    assert f"{file}` is a file; write" in said.err or f"as {file} is a file; write" in said.err
    assert file.read_text() == "mine"


def test_a_page_that_is_no_text(capsys, tmp_path):
    (tmp_path / "latin").write_bytes(b"\xe9")
    assert "is not UTF-8" in command(capsys, "methods", "--page", str(tmp_path / "latin")).err
    assert command(capsys, "tasks", "--page", str(tmp_path)).code == 2
