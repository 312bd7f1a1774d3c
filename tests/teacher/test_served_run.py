"""A training whose teacher is served: the run of the live teacher, whatever happens to the server."""

import threading
from collections.abc import Callable

import pytest
import tiny_models
from kept_ports import kept_port
from teacher.serving import Serving, saved_teacher, serving
from train import parity
from transformers import TrainerCallback

from qtarget.teacher.served.transport import TeacherUnavailableError
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

STEPS = 6


class AtStep(TrainerCallback):
    """Something done once, in the middle of a run."""

    def __init__(self, step: int, what: Callable[[], None]) -> None:
        self.step, self.what = step, what

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            self.what()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder) as server:
        yield server


def trainer(teacher: str, callbacks=(), data=None, **changes) -> TargetSFTTrainer:
    args = parity.common_args(max_steps=STEPS, **changes)
    return TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="target-sft", teacher=teacher, teacher_top_k=tiny_models.VOCAB, **args),
        train_dataset=tiny_models.prompt_completion() if data is None else data,
        processing_class=tiny_models.tiny_tokenizer(),
        callbacks=list(callbacks),
    )


def history(teacher: str, callbacks=(), **changes) -> dict[str, list[float]]:
    made = trainer(teacher, callbacks, **changes)
    made.train()
    return parity.history(made)


@pytest.fixture(scope="module")
def undisturbed(server) -> dict[str, list[float]]:
    return history(server.url)


def test_the_run_is_that_of_the_live_teacher(folder, undisturbed):
    """All tokens are kept; what remains is rounding."""
    assert max(parity.deviation(history(str(folder)), undisturbed)) < 1e-4


def test_a_served_teacher_is_sharpened_as_a_live_one(folder, server, undisturbed):
    sharp = {"method_kwargs": {"teacher_temperature": 0.5}}
    served = history(server.url, **sharp)
    assert max(parity.deviation(history(str(folder), **sharp), served)) < 1e-4
    assert max(parity.deviation(served, undisturbed)) > 1e-3


def test_a_worker_that_asks_changes_nothing(server, undisturbed):
    assert history(server.url, dataloader_num_workers=1) == undisturbed


def test_a_server_killed_and_started_again_in_the_middle_of_a_run_changes_nothing(folder, undisturbed):
    with kept_port() as port, serving(folder, port=port) as first:
        again = Again(folder, first)
        with again:
            assert history(first.url, [AtStep(2, again.kill_and_start)]) == undisturbed
        assert first.process.returncode == -9


class Again:
    """Kills a server and starts another at its address, which takes seconds, while the run goes on."""

    def __init__(self, folder, first: Serving) -> None:
        self.folder, self.first, self.over = folder, first, threading.Event()
        self.thread = threading.Thread(target=self._serve)

    def kill_and_start(self) -> None:
        self.first.kill()
        self.thread.start()

    def _serve(self) -> None:
        with serving(self.folder, port=self.first.port):
            self.over.wait(1200)

    def __enter__(self) -> "Again":
        return self

    def __exit__(self, *_) -> None:
        self.over.set()
        self.thread.join()


def test_a_server_that_never_comes_back_stops_the_run_in_its_own_words(folder):
    with serving(folder) as server:
        run = trainer(server.url, [AtStep(2, server.kill)], teacher_timeout=5)
        with pytest.raises(TeacherUnavailableError, match=rf"{server.url} was away for 5 s.*qtarget teacher serve"):
            run.train()
        assert 2 <= run.state.global_step < STEPS


@pytest.mark.parametrize("layout", [{}, {"packing": True, "max_length": 64}], ids=str)
def test_a_served_teacher_reads_its_own_prompt(server, folder, undisturbed, layout):
    data = tiny_models.prompt_completion().map(lambda row: {"teacher_prompt": f"w1 w2 w3 {row['prompt']}"})
    served, live = history(server.url, data=data, **layout), history(str(folder), data=data, **layout)
    assert max(parity.deviation(served, live)) < 1e-5
    assert max(parity.deviation(served, undisturbed)) > 1e-3
