"""Whole evaluations of the lab's student: resumed after kill -9, graded again, refused, shown."""

import io
import json
import os
import shutil
import signal
from dataclasses import replace
from functools import partial

import pytest
from evaluate.generators.cases import STUDENT, TEACHER
from job.stopped import Signalling, end_of, started
from rich.console import Console

from qtarget.cli.main import main
from qtarget.console import SafeConsole
from qtarget.disk.one_writer import one_writer
from qtarget.evaluate.compare.arms import read_arm
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.evaluate.grading import GRADERS
from qtarget.evaluate.nouns import Grade, Question
from qtarget.evaluate.run.conduct import run_evaluation
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.run.progress_display import Pace, ProgressDisplay
from qtarget.evaluate.run.results import average_of
from qtarget.evaluate.run.view import results_view
from qtarget.evaluate.store import Appender, load_answers, read_records, write_records
from qtarget.outcomes import Interruption

TASK = "lab-weak-operator"
K, QUESTIONS = 4, 24


def plan(folder, **changes) -> EvaluationPlan:
    made = EvaluationPlan(
        str(STUDENT), (TASK,), folder / "out", {"k": K}, QUESTIONS, lock=folder / "lock.json", batch_size=8
    )
    return replace(made, **changes)


def samples(folder):
    return folder / "out" / TASK / "samples.jsonl"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run_evaluation(plan(folder))
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """A folder of the finished run, to do something to."""
    (tmp_path / "out" / TASK).mkdir(parents=True)
    for path in finished.rglob("*.json*"):
        (tmp_path / path.relative_to(finished)).write_bytes(path.read_bytes())
    return tmp_path


@pytest.fixture
def no_drawing(monkeypatch):
    def refuse(*_):
        raise AssertionError("a sample was drawn")

    monkeypatch.setattr(HuggingFace, "generate", refuse)


def test_the_results_are_those_of_the_records(finished):
    (one,) = run_evaluation(plan(finished)).tasks
    records = read_records(samples(finished))
    assert len(records) == K * QUESTIONS
    assert one.average.mean == pytest.approx(sum(r.grade for r in records) / len(records))
    assert one.average.low < one.average.mean < one.average.high
    right = {r.qid for r in records if r.grade == 1}
    assert one.pass_at_k == pytest.approx(len(right) / QUESTIONS)
    assert one.mean_tokens == pytest.approx(sum(r.n_tokens for r in records) / len(records))
    assert one.overridden == ("k", f"questions (the first {QUESTIONS} of 120)")
    assert one.warnings[0] == f"not the task's own questions (the first {QUESTIONS} of 120)"
    file = io.StringIO()
    SafeConsole(file=file, width=100).print(results_view(run_evaluation(plan(finished)), 100))
    assert f"{TASK}*" in file.getvalue()
    assert "* not asked as the task says" in file.getvalue()
    assert load_answers(finished / "out")[0].overridden == one.overridden
    written = json.loads((finished / "out" / "results.json").read_text())
    assert written["tasks"][0]["average"]["mean"] == one.average.mean
    (answers,) = load_answers(finished / "out")
    assert [len(own) for own in answers.records] == [K] * QUESTIONS


@pytest.mark.failure_case(1)
@pytest.mark.parametrize("moment", [1, 30, 80])
def test_killed_at_any_moment_a_run_goes_on_to_the_same_records_and_draws_none_twice(finished, tmp_path, moment):
    """A real process, killed by -9 once so many samples are on disk."""
    work, path = partial(run_evaluation, plan(tmp_path)), samples(tmp_path)
    killed = end_of(started(work, Signalling(Appender, "append", moment, signal.SIGKILL), folder=tmp_path), tmp_path)
    assert killed.code == -signal.SIGKILL, killed.err
    there = [
        json.loads(line)["completion"] for line in path.read_bytes().splitlines(keepends=True) if line[-1:] == b"\n"
    ]
    assert len(there) == moment
    counted = Counted()
    run_evaluation(plan(tmp_path), counted)
    assert counted.drawn == K * QUESTIONS - len(there)
    assert sorted(path.read_bytes().splitlines()) == sorted(samples(finished).read_bytes().splitlines())


class Counted:
    """Counts the samples that are drawn."""

    def __init__(self) -> None:
        self.drawn = 0

    def begin(self, what: str, total: int, done: int, at_once: int = 1, most_tokens: int = 0) -> None: ...
    def add_tokens(self, tokens: int) -> None: ...

    def advance(self, tokens: int = 0) -> None:
        self.drawn += tokens > 0

    def end(self) -> None: ...


def test_a_torn_last_line_is_told_of_and_drawn_again(copy, finished):
    whole = samples(copy).read_bytes()
    samples(copy).write_bytes(whole[:-100])
    counted = Counted()
    results = run_evaluation(plan(copy), counted)
    assert counted.drawn == 1
    assert "was cut off" in results.notices[0]
    assert samples(copy).read_bytes() == whole


def test_a_damaged_line_is_named(copy):
    lines = samples(copy).read_bytes().splitlines(keepends=True)
    samples(copy).write_bytes(b"".join([*lines[:4], lines[4][:50] + b"\n", *lines[5:]]))
    with pytest.raises(ValueError, match=r"samples.jsonl, line 5: this is not JSON"):
        run_evaluation(plan(copy))


@pytest.mark.failure_case(13)
def test_a_question_with_a_sample_too_few_is_refused_by_statistics_and_filled_by_the_run(copy):
    lines = samples(copy).read_bytes().splitlines(keepends=True)
    samples(copy).write_bytes(b"".join(lines[1:]))
    (answers,) = load_answers(copy / "out")
    with pytest.raises(
        ValueError, match=rf"Question '{json.loads(lines[0])['qid']}' has 3 samples and Average@4 needs"
    ):
        average_of(answers)
    with pytest.raises(ValueError, match="has 3 samples"):
        run_evaluation(plan(copy, regrade=True))
    counted = Counted()
    run_evaluation(plan(copy), counted)
    assert counted.drawn == 1
    assert samples(copy).read_bytes() == b"".join(lines)


def test_samples_of_another_model_are_not_graded_again(copy):
    other = [replace(record, model_fp="another") for record in read_records(samples(copy))]
    write_records(samples(copy), other)
    with pytest.raises(ValueError, match=rf"{TASK}/samples.jsonl: sample 0 of .* by another model than run.json names"):
        run_evaluation(plan(copy, regrade=True))
    assert read_records(samples(copy)) == other


def test_questions_of_one_cluster_are_resampled_together(finished):
    (answers,) = load_answers(finished / "out")
    alike = replace(answers, questions=tuple(replace(one, cluster="all alike") for one in answers.questions))
    apart, together = average_of(answers)[0], average_of(alike)[0]
    assert together.mean == apart.mean
    assert together.high - together.low > apart.high - apart.low
    assert (apart.n_units, together.n_units) == (0, 1)


class Strict:
    """A grader for whom nothing is right."""

    def fingerprint(self) -> str:
        return "strict"

    def grade(self, question: Question, completion: str) -> Grade:
        return Grade(None, "timeout") if completion.endswith("4") else Grade(0, "ok", completion[-1:])


def test_another_grader_grades_what_is_there_and_draws_nothing(copy, monkeypatch, no_drawing):
    before = read_records(samples(copy))
    monkeypatch.setitem(GRADERS, "lab", Strict)
    (one,) = run_evaluation(plan(copy)).tasks
    after = read_records(samples(copy))
    assert [r.completion for r in after] == [r.completion for r in before]
    assert one.average.mean == 0
    assert one.unknown == {"timeout": sum(r.completion.endswith("4") for r in before)}
    assert any("no known grade" in warning for warning in one.warnings)
    monkeypatch.undo()
    run_evaluation(plan(copy, regrade=True))
    assert read_records(samples(copy)) == before


def test_regrading_needs_neither_the_model_nor_the_rows(copy):
    content = samples(copy).read_bytes()
    run_evaluation(plan(copy, model="nowhere", regrade=True, lock=copy / "other.json"))
    assert samples(copy).read_bytes() == content
    with pytest.raises(ValueError, match="holds no samples of math-500"):
        run_evaluation(plan(copy, tasks=("math-500",), regrade=True))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": str(TEACHER)}, "model weights: '.*' there, '.*' now"),
        ({"batch_size": 9}, "generation batch_size: 8 there, 9 now"),
        ({"dtype": "bfloat16"}, "generation dtype: 'float32' there, 'bfloat16' now"),
        ({"protocol": {"k": K, "temperature": 0.7}}, "temperature: 1.0 there, 0.7 now"),
        ({"limit": QUESTIONS - 1}, "questions: 24 there, 23 now"),
    ],
)
def test_another_evaluation_in_the_same_folder_is_refused_with_the_difference(copy, changes, said):
    content = samples(copy).read_bytes()
    with pytest.raises(ValueError, match=rf"holds another evaluation(.|\n)*{said}(.|\n)*another --out"):
        run_evaluation(plan(copy, **changes))
    assert samples(copy).read_bytes() == content


def test_a_folder_may_be_moved_and_called_otherwise(copy, monkeypatch, no_drawing):
    monkeypatch.chdir(STUDENT.parent)
    run_evaluation(plan(copy, model="student"))


def test_a_prompt_with_other_ids_than_the_samples_is_refused(copy):
    first, *others = read_records(samples(copy))
    write_records(samples(copy), [replace(first, prompt_ids_sha256=first.prompt_ids_sha256[::-1]), *others])
    with pytest.raises(ValueError, match="has other token ids now"):
        run_evaluation(plan(copy))


@pytest.mark.failure_case(22)
def test_two_writers_do_not_write_to_one_folder(copy):
    with one_writer(copy / "out"), pytest.raises(ValueError, match="is being written by"):
        run_evaluation(plan(copy))


def test_ctrl_c_leaves_what_was_drawn(tmp_path, finished):
    class Stopping(Counted):
        def advance(self, tokens: int = 0) -> None:
            super().advance(tokens)
            if self.drawn == 10:
                raise KeyboardInterrupt

    with pytest.raises(Interruption, match=rf"10 of {K * QUESTIONS} samples .* the same command goes on"):
        run_evaluation(plan(tmp_path), Stopping())
    run_evaluation(plan(tmp_path))
    assert samples(tmp_path).read_bytes() == samples(finished).read_bytes()


@pytest.mark.failure_case(14)
def test_identical_samples_and_cut_off_ones_are_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr("qtarget.evaluate.run.draw.seed_of", lambda *_: 5)
    (one,) = run_evaluation(plan(tmp_path, limit=3, protocol={"k": 4, "max_new_tokens": 5})).tasks
    assert any("all 4 samples of 3 of 3 questions are identical at temperature 1" in text for text in one.warnings)
    assert any("the stop token was never learned" in text for text in one.warnings)
    assert one.truncated == one.no_answer == 1


def test_an_empty_answer_is_an_answer_without_one(tmp_path, monkeypatch):
    own = HuggingFace.generate
    monkeypatch.setattr(
        HuggingFace, "generate", lambda *asked: (replace(completion, text="", tokens=1) for completion in own(*asked))
    )
    (one,) = run_evaluation(plan(tmp_path, limit=2)).tasks
    assert (one.average.mean, one.no_answer) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": ("lab-weak-operater",)}, "Did you mean 'lab-weak-operator'"),
        ({"tasks": ()}, "write --task NAME"),
        ({"protocol": {"temperature": 0}}, "write --k 1"),
        ({"protocol": {"k": 0}}, "k=0 was given"),
        ({"protocol": {"prompt": "plane"}}, "Unknown prompt 'plane'"),
        ({"limit": 0}, "--limit 1"),
        ({"generator": "http"}, "write --url"),
        ({"generator": "llama"}, "write --generator hf, http or vllm"),
        ({"generator": "http", "url": "http://host", "base": "x"}, "write --generator hf"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        run_evaluation(plan(tmp_path, **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_the_terminal(finished, width):
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(results_view(run_evaluation(plan(finished)), width))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.startswith(TASK[:10]) and f"{QUESTIONS} × {K}" in line for line in lines)  # a long name is folded
    assert any("not the task's own: k" in line for line in lines) or width == 80


def test_progress_off_a_terminal_is_plain_lines(tmp_path):
    shown = ProgressDisplay(Console(file=open(tmp_path / "said", "w"), width=80))  # noqa: SIM115
    shown.begin("task", 10, 4)
    shown.advance(100)
    assert "5 of 10" in shown.line()
    assert " left" in shown.line()
    assert "tokens/s" in shown.line()
    shown.end()
    shown.console.file.close()
    said = (tmp_path / "said").read_text().splitlines()
    assert said[0] == "task: 4 of 10 samples are there already"
    assert said[1].startswith("task: 5 of 10, ")
    assert "\x1b" not in "".join(said)


def test_progress_is_shown_from_the_first_token_on_and_the_time_is_a_bound_until_enough_have_ended():
    pace = Pace(total=100, at_once=32, most_tokens=50)
    assert pace.text(10.0) == ""
    pace.told = 40
    assert pace.text(10.0) == ", 40 tokens, 4 tokens/s, at most 20 min 50 s left"
    pace.now, pace.ended, pace.told = 7, 70, 400
    assert pace.text(10.0) == ", 40 tokens/s, at most 1 min 56 s left"
    pace.now, pace.ended = 8, 80
    assert pace.text(10.0) == ", 40 tokens/s, 1 min 55 s left"
    pace.now, pace.told = 20, 100
    assert pace.text(10.0) == ", 10 tokens/s, 40 s left"
    assert Pace(total=20, before=10, now=10, told=100).text(10.0) == ", 10 tokens/s, 10 s"
    assert Pace(total=10, now=1).text(1.0) == ", 1/s, 9 s left"


def test_a_run_tells_of_tokens_before_a_sample_ends(tmp_path):
    events = []

    class Recorded(Counted):
        def begin(self, what, total, done, at_once=1, most_tokens=0):
            events.append((total, done, at_once, most_tokens) if "grading" not in what else "grading")

        def add_tokens(self, tokens):
            events.append("tokens")

        def advance(self, tokens=0):
            events.append("ended")

    run_evaluation(plan(tmp_path, limit=2), Recorded())
    assert events[0][:3] == (2 * K, 0, 8)
    assert events[0][3] > 1
    assert events[1] == "tokens"
    assert events[: events.index("grading")].count("ended") == 2 * K


def test_the_command_prints_json_and_says_what_is_wrong(finished, capsys, monkeypatch):
    monkeypatch.chdir(finished)
    words = ["eval", str(STUDENT), "--task", TASK, "--out", "out", "--limit", str(QUESTIONS), "--batch-size", "8"]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--k", str(K), "--json"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["questions"] == QUESTIONS
    with pytest.raises(SystemExit) as ended:
        main([*words, "--k", "5"])
    assert ended.value.code == 2
    assert "k: 4 there, 5 now" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main([*words, "--rows", "math-500=x.jsonl"])
    assert ended.value.code == 2
    assert "not among --task" in capsys.readouterr().err


def test_base_and_reference_rows_write_the_effects(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1 + 1 ?", "completion": " 1 + 1 = 2 so answer 2"}\n')
    results = run_evaluation(plan(tmp_path, model=str(TEACHER), limit=4, base=str(STUDENT), reference_rows=rows))
    effects = json.loads((tmp_path / "out" / "effects.json").read_text())
    assert effects["forgetting"]["kl"] > 0.1
    assert effects["calibration"]["tokens"] == 9
    assert effects["answers"][TASK]["mean_tokens"] == results.tasks[0].mean_tokens
    assert read_arm("of its own", [tmp_path / "out"]).effects[0]["calibration"] == effects["calibration"]
    for name, changes, said in (
        ("other model", {"model": str(STUDENT)}, "the model in run.json"),
        ("other questions", {"model": str(TEACHER), "limit": 3}, "the tasks in task.json"),
    ):
        run_evaluation(plan(tmp_path / name, **{"limit": 4, **changes}))
        shutil.copy(tmp_path / "out" / "effects.json", tmp_path / name / "out")
        with pytest.raises(ValueError, match=rf"effects.json holds the effects of another evaluation than of {said}"):
            read_arm(name, [tmp_path / name / "out"])
    old = {key: value for key, value in effects.items() if key not in ("of", "content_sha256")}
    (tmp_path / name / "out" / "effects.json").write_text(json.dumps(old))
    assert read_arm(name, [tmp_path / name / "out"]).effects == (old,)
    rows.write_text('{"text": "1"}\n')
    with pytest.raises(ValueError, match="row 1: a reference row has the texts `prompt` and `completion`"):
        run_evaluation(plan(tmp_path, model=str(TEACHER), limit=4, base=str(STUDENT), reference_rows=rows))
