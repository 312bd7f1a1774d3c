"""The process behind the grader of mathematics: limits of time and memory, deaths, threads."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qtarget.evaluate.grading import MathGrader
from qtarget.evaluate.grading.too_large import is_too_large
from qtarget.evaluate.grading.worker import SCRIPT, WorkerDied
from qtarget.evaluate.nouns import Grade, Question

SEVEN = Question("q", "How many?", "7")
RIGHT = r"\boxed{6+1}"  # not the gold's own letters: those need no worker
AGAIN = r"\boxed{5+2}"  # equal pairs of gold and answer are judged once
BOMB = r"\boxed{(3+6)^{(3+6)^{(3+6)^{9}}}}"  # one that no glance finds
UNKNOWN = (None, "timeout")
SEVEN_ASKED = '{"gold": "7", "answer": "6+1"}'


@pytest.fixture
def grader():
    made = quick_with_bombs(MathGrader(seconds=60, at_once=1))
    yield made
    made.close()


def quick_with_bombs(grader: MathGrader) -> MathGrader:
    """A bomb gets a second. Everything else has the grader's own time, as a busy machine may be slow with it."""
    for worker in grader.pool.workers:

        def ask(request, worker=worker, plain=worker.ask):
            is_bomb = "(3+6)^" in str(request) or "(10^8 + 10^9)!" in str(request)
            worker.seconds = 1 if is_bomb else grader.pool.seconds
            return plain(request)

        worker.ask = ask
    return grader


def verdict(grade: Grade) -> tuple:
    return grade.value, grade.reason


def process_of(grader: MathGrader) -> subprocess.Popen:
    process = grader.pool.workers[0].process
    assert process is not None
    return process


def test_it_starts_when_first_needed_and_stays(grader: MathGrader):
    grader.grade(SEVEN, r"\boxed{7}")
    grader.grade(SEVEN, "no box")
    assert grader.pool.workers[0].process is None
    grader.grade(SEVEN, RIGHT)
    first = process_of(grader)
    grader.grade(SEVEN, AGAIN)
    assert process_of(grader) is first


@pytest.mark.failure_case(15)
@pytest.mark.parametrize("bomb", [BOMB, r"\boxed{(10^8 + 10^9)!}"])
def test_a_bomb_is_unknown_and_the_next_answer_is_graded(grader: MathGrader, bomb: str):
    assert verdict(grader.grade(SEVEN, bomb)) == UNKNOWN
    assert verdict(grader.grade(SEVEN, RIGHT)) == (1, "boxed")


PLAIN_BOMBS = (
    "9^{9^{9^{9}}}",
    "2^{3^{40}}",
    "9^(9^9)",
    "10^{-10^{10}}",
    "(10^9)!",
    "300000!",
    "(100!)!",
    r"\binom{10^7}{5}",
)


@pytest.mark.parametrize("bomb", PLAIN_BOMBS)
def test_what_is_plainly_too_large_costs_no_time(grader: MathGrader, bomb: str):
    assert verdict(grader.grade(SEVEN, rf"\boxed{{{bomb}}}")) == UNKNOWN
    assert verdict(grader.grade(Question("q", "?", bomb), r"\boxed{7}")) == UNKNOWN
    assert verdict(grader.grade(Question("q", "?", bomb), rf"\boxed{{{bomb}}}")) == (1, "boxed")
    assert grader.pool.workers[0].process is None


@pytest.mark.parametrize(
    "large", ["2^{2004}", "10^{100}", "2004!", "2^{10^6}", r"\binom{100}{50}", "5!!", "2^{3}4000000000"]
)
def test_what_can_be_worked_out_is(large: str):
    assert not is_too_large(large)


def test_a_bomb_in_the_gold_is_unknown(grader: MathGrader):
    assert verdict(grader.grade(Question("q", "?", "(3+6)^{(3+6)^{(3+6)^{9}}}"), RIGHT)) == UNKNOWN


@pytest.mark.failure_case(15)
def test_an_answer_that_eats_memory_is_unknown_and_the_next_one_is_graded():
    grader = MathGrader(seconds=60, memory_bytes=256 * 1024**2)  # less than this process has
    assert verdict(grader.grade(SEVEN, r"\boxed{2^{5 \cdot 10^8}}")) == UNKNOWN
    assert verdict(grader.grade(SEVEN, RIGHT)) == (1, "boxed")
    grader.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for another process's limits")
def test_the_system_holds_the_worker_to_its_memory(grader: MathGrader):
    import resource

    grader.grade(SEVEN, RIGHT)
    assert resource.prlimit(process_of(grader).pid, resource.RLIMIT_AS)[0] == grader.pool.memory_bytes


def test_a_worker_that_was_killed_between_answers_is_replaced(grader: MathGrader):
    grader.grade(SEVEN, RIGHT)
    first = process_of(grader)
    first.kill()
    first.wait()
    assert verdict(grader.grade(SEVEN, AGAIN)) == (1, "boxed")
    assert process_of(grader) is not first


@pytest.mark.skipif(os.name != "posix", reason="stops a process by a signal")
def test_a_worker_that_dies_over_an_answer_is_asked_once_more():
    grader = MathGrader(seconds=60, at_once=1)
    grader.grade(SEVEN, RIGHT)
    first = process_of(grader)
    os.kill(first.pid, signal.SIGSTOP)  # so that it dies with the question in hand
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(grader.grade, SEVEN, AGAIN)
        time.sleep(0.05)
        first.kill()
        assert verdict(waiting.result(timeout=300)) == (1, "boxed")
    grader.close()


@pytest.mark.failure_case(15)
def test_threads_get_the_verdicts_of_their_own_answers():
    grader = quick_with_bombs(MathGrader(seconds=60, at_once=2))
    questions = [Question(str(n), "?", str(n)) for n in range(24)]
    answers = [BOMB if n == 5 else rf"\boxed{{{n}.0}}" if n % 2 else rf"\boxed{{{n}+1}}" for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        grades = list(pool.map(grader.grade, questions, answers))
    assert [grade.value for grade in grades] == [None if n == 5 else n % 2 for n in range(24)]
    grader.close()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_does_not_reach_the_worker(grader: MathGrader):
    grader.grade(SEVEN, RIGHT)
    first = process_of(grader)
    os.kill(first.pid, signal.SIGINT)
    assert verdict(grader.grade(SEVEN, AGAIN)) == (1, "boxed")
    assert process_of(grader) is first


def test_an_answer_that_takes_all_its_time_does_not_hold_up_the_others():
    grader = MathGrader(seconds=1800, at_once=2)
    with ThreadPoolExecutor(1) as pool:
        bomb = pool.submit(grader.grade, SEVEN, BOMB)
        while grader.pool.workers[0].process is None:
            assert not bomb.done()
        assert verdict(grader.grade(SEVEN, RIGHT)) == (1, "boxed")
        assert not bomb.done()
        grader.close()  # over an answer too
        with pytest.raises(WorkerDied):
            bomb.result(timeout=300)


def test_equal_answers_are_judged_once(grader: MathGrader, monkeypatch: pytest.MonkeyPatch):
    asked, (worker,) = [], grader.pool.workers
    judge = worker.ask
    monkeypatch.setattr(worker, "ask", lambda *request: asked.append(request) or judge(*request))
    assert [verdict(grader.grade(SEVEN, answer)) for answer in (RIGHT, BOMB, RIGHT, BOMB)] == [
        (1, "boxed"),
        UNKNOWN,
    ] * 2
    assert len(asked) == 2


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads another process's environment in /proc")
def test_the_worker_is_told_no_secret(grader: MathGrader, monkeypatch: pytest.MonkeyPatch):
    for name in ("HF_TOKEN", "QTARGET_API_KEY", "QTARGET_TEACHER_TOKEN", "DB_PASSWORD"):
        monkeypatch.setenv(name, "hunter2hunter2")
    grader.grade(SEVEN, RIGHT)
    environment = Path(f"/proc/{process_of(grader).pid}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"hunter2" not in environment


def test_it_ends_with_the_process_that_started_it():
    command = [sys.executable, "-P", str(SCRIPT), str(2 * 1024**3), "5"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()  # as the system does for a process that is gone
    assert process.wait(timeout=300) == 0


ALARMS = """
import runpy, signal, sys
script, alarms, sys.argv = sys.argv[1], [], sys.argv[1:]
signal.alarm = alarms.append
runpy.run_path(script, run_name="__main__")
sys.stderr.write(f"{alarms}")
"""


@pytest.mark.skipif(os.name != "posix", reason="an alarm")
@pytest.mark.parametrize("kind", ["math", "function"])
def test_its_alarm_is_for_the_answer_in_hand_and_not_for_the_time_in_which_nobody_asks(tmp_path: Path, kind: str):
    (tmp_path / "mine.py").write_text("def right(gold, answer):\n    return gold == answer\n", "utf-8")
    own, asked = ((), SEVEN_ASKED) if kind == "math" else ((str(tmp_path / "mine.py"), "right"), '["7", "7"]')
    command = [sys.executable, "-P", "-c", ALARMS, str(SCRIPT.with_name(f"{kind}_worker.py")), str(2 * 1024**3), "5"]
    said = subprocess.run([*command, *own], input=f"{asked}\n" * 2, capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr
    assert said.stderr.splitlines()[-1] == "[10, 0, 10, 0]"


def test_a_python_without_math_verify_is_told_what_to_install(grader: MathGrader, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'qtarget\[train\]'"):
        grader.grade(SEVEN, RIGHT)


def test_the_fingerprint_names_libraries_and_limits(grader: MathGrader):
    said = grader.fingerprint()
    assert said.startswith("math 6 (math-verify 0.9.")
    assert all(part in said for part in ("latex2sympy2_extended", "antlr4", "sympy", "60 s", "2048 MiB"))
