"""A finished result that a longer run replaces: until then it stays as it was, under its seal.

Weights that a run leaves behind are sealed, and no card speaks of weights that it is not beside."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from job.command import run
from job.stopped import Signalling, ended
from transformers import PreTrainedModel, Trainer

from qtarget.disk.seal import SEAL, damage, read_seal
from qtarget.models.model_seal import refuse_damaged_model

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes")
ALONE = ("train", "config.yaml", "--teacher", "null", "--method", "sft", "--eta", "null", "--eval-dataset", "null")
LONGER = (*ALONE, "--max-steps", "8", "--resume-changed", "max_steps", "--resume-from-checkpoint")


@pytest.fixture
def there(here, capsys) -> Path:
    said = run(capsys, *ALONE)
    assert said.code == 0, said.err
    return here


def content(folder: Path) -> dict[str, bytes]:
    """The files of a result, but logs."""
    return {
        each.name: each.read_bytes()
        for each in folder.iterdir()
        if each.is_file() and each.suffix != ".log" and each.name[0] != "."
    }


def is_of_step(file: Path) -> bool:
    return file.is_file() and "for 8 optimizer steps" in file.read_text(encoding="utf-8")


@pytest.mark.failure_case(1)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_the_earlier_result_sealed_as_it_was(there, number):
    before = content(there / "out")
    stopped = ended(LONGER, Signalling(Trainer, "training_step", 2, number), folder=there)
    assert stopped.code in (-signal.SIGKILL, 128 + signal.SIGTERM), stopped.err
    assert (there / "out" / "checkpoint-6").is_dir()
    assert content(there / "out") == before
    assert damage(there / "out", read_seal(there / "out")) == []
    assert "for 6 optimizer steps" in (there / "out" / "checkpoint-6" / "README.md").read_text(encoding="utf-8")


@pytest.mark.failure_case(1)
def test_one_killed_while_it_replaces_the_weights_is_refused_by_name(there):
    save = Signalling(
        PreTrainedModel, "save_pretrained", 0, signal.SIGKILL, where=lambda _, folder, **__: folder == "out"
    )
    written = ended(LONGER, AfterCall(save), folder=there)
    assert written.code == -signal.SIGKILL, written.err
    with pytest.raises(ValueError, match=r"model\.safetensors has other content than when it was sealed"):
        refuse_damaged_model(str(there / "out"))
    assert ended(LONGER, folder=there).code == 0
    assert damage(there / "out", read_seal(there / "out")) == []
    assert is_of_step(there / "out" / "README.md")


class AfterCall:
    """A signal behind a call, not before it."""

    def __init__(self, signalling: Signalling) -> None:
        self.signalling = signalling

    def install(self) -> None:
        owner, name, *_ = self.signalling
        function = getattr(owner, name)

        def calling(*args, **kwargs):
            result = function(*args, **kwargs)
            if self.signalling.where(*args, **kwargs):
                os.kill(os.getpid(), self.signalling.number)
            return result

        setattr(owner, name, calling)


@pytest.mark.failure_case(1)
def test_one_killed_before_its_card_is_written_leaves_no_card_of_another(there):
    draw = Signalling(Trainer, "save_state", 0, signal.SIGKILL)
    assert ended(LONGER, draw, folder=there).code == -signal.SIGKILL
    assert not (there / "out" / SEAL).exists()
    assert not {"README.md", "metrics.json", "train.yaml", "training.png"} & content(there / "out").keys()


@pytest.mark.failure_case(2)
def test_the_last_good_weights_are_sealed(here, capsys, monkeypatch):
    from qtarget.job.build import JobTrainer

    step = JobTrainer.training_step

    def poisoned(self, *args, **kwargs):
        loss = step(self, *args, **kwargs)
        if self.state.global_step == 1:
            next(self.model.parameters()).grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(JobTrainer, "training_step", poisoned)
    said = run(capsys, *ALONE)
    assert said.code == 1, said.err
    folder = here / "out" / "last-good-1"
    assert damage(folder, read_seal(folder)) == []


def test_a_stop_whose_checkpoint_cannot_be_written_says_what_is_lost(here):
    words = (*ALONE, "--on-save-error", "continue", "--save-steps", "2", "--max-steps", "9")
    stopped = ended(words, FullFrom(4), Signalling(Trainer, "training_step", 5, signal.SIGTERM), folder=here)
    assert stopped.code == 128 + signal.SIGTERM, stopped.err
    said = " ".join(stopped.err.split())
    assert "Nothing is lost" not in said
    assert "The last whole checkpoint is out/checkpoint-2; the 4 steps after it are lost" in said
    shutil.rmtree(here / "out")
    words = (*ALONE, "--on-save-error", "continue", "--save-strategy", "no", "--max-steps", "9")
    stopped = ended(words, FullFrom(0), Signalling(Trainer, "training_step", 5, signal.SIGTERM), folder=here)
    assert stopped.code == 128 + signal.SIGTERM, stopped.err
    said = " ".join(stopped.err.split())
    assert "Nothing is lost" not in said
    assert "nothing of it is kept" in said.rpartition("stopped by")[2]


class FullFrom:
    """The disk is full for every checkpoint from a step on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def install(self) -> None:
        from qtarget.job.build import JobTrainer

        seal = JobTrainer.seal

        def full(trainer, folder):
            if trainer.state.global_step >= self.step:
                raise OSError(28, "No space left on device", str(folder))
            seal(trainer, folder)

        JobTrainer.seal = full
