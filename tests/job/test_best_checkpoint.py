"""`load_best_model_at_end`: the checkpoint whose weights become the result is looked at as one that is resumed from."""

import errno
import json
import shutil
from pathlib import Path

import pytest
from job.command import run
from job.directories import link_into

from qtarget.disk.seal import read_seal
from qtarget.train import TargetSFTTrainer

SETTINGS = {"teacher": "null", "method": "sft", "eta": "null", "learning_rate": "3e-1"}
BEST = {**SETTINGS, "eval_strategy": "steps", "eval_steps": "2", "load_best_model_at_end": "true"}


def words_for(settings: dict[str, str]) -> tuple[str, ...]:
    return ("train", "config.yaml", "--max-steps", "6", *(w for k, v in settings.items() for w in (f"--{k}", v)))


TRAIN, LAST = words_for(BEST), words_for({**BEST, "load_best_model_at_end": "false"})
RESUME = "--resume-from-checkpoint"


@pytest.fixture(scope="module")
def trained(home, tmp_path_factory) -> Path:
    """A folder with a finished run, whose best checkpoint is not its last."""
    folder = tmp_path_factory.mktemp("best")
    link_into(folder, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        from qtarget.job.config.flags import parse_arguments
        from qtarget.job.config.read_job import read_job
        from qtarget.job.training import prepare_training, run_training

        run_training(prepare_training(read_job(parse_arguments(list(TRAIN[1:])))))
    return folder


@pytest.fixture
def there(here, trained) -> Path:
    shutil.copytree(trained / "out", here / "out")
    return here


def best_of(out: Path) -> Path:
    best = (
        out / Path(json.loads((out / "checkpoint-6" / "trainer_state.json").read_text())["best_model_checkpoint"]).name
    )
    assert best.name != "checkpoint-6"
    return best


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def test_the_result_has_the_weights_of_the_best_checkpoint(there):
    assert weights(there / "out") == weights(best_of(there / "out"))
    assert weights(there / "out") != weights(there / "out" / "checkpoint-6")


def told_of(out: Path) -> tuple[str, dict, dict]:
    """The card, the facts of the manifest and the figures of a result."""
    card = " ".join((out / "README.md").read_text(encoding="utf-8").split())
    return card, dict(read_seal(out).facts), json.loads((out / "metrics.json").read_text(encoding="utf-8"))


def test_card_manifest_and_figures_say_which_steps_weights_these_are(there):
    card, facts, figures = told_of(there / "out")
    best = int(best_of(there / "out").name.removeprefix("checkpoint-"))
    words = f"by **sft** for {best} optimizer steps (the run took 6; the weights are those of step {best}, the best by"
    assert f"{words} `eval_loss`)" in card
    assert (facts["step"], facts["run_steps"]) == (best, 6)
    assert (figures["steps"], figures["weights_of_step"]) == (6, best)
    card = (there / "out" / "checkpoint-6" / "README.md").read_text(encoding="utf-8")
    assert "for 6 optimizer steps with" in card
    assert read_seal(there / "out" / "checkpoint-6").facts["step"] == 6


def test_what_was_changed_behind_them_is_not_told_of_them(there, capsys):
    best = best_of(there / "out")
    after = int(best.name.removeprefix("checkpoint-"))
    for each in (there / "out").glob("checkpoint-*"):
        if int(each.name.removeprefix("checkpoint-")) > after:
            shutil.rmtree(each)
    before = weights(best)
    other = words_for({**BEST, "method": "label-smoothing"})
    said = run(capsys, *other, RESUME, "--resume-changed", "method", "hyperparameters")
    assert said.code == 0, said.err
    assert weights(there / "out") == before
    card, facts, _ = told_of(there / "out")
    assert (facts["step"], [each["identity"]["method"] for each in facts["history"]]) == (after, ["sft"])
    assert "the last of them by **label-smoothing**" not in card
    assert "No step behind these weights was run with what stands above and below." in card
    assert f"Behind step {after} the run went on with " in card
    assert "method label-smoothing (before: sft): later than these weights." in card
    assert "repeats the run" not in card


def eval_losses(out: Path) -> dict[int, float]:
    log = json.loads((out / "checkpoint-6" / "trainer_state.json").read_text())["log_history"]
    return {each["step"]: each["eval_loss"] for each in log if "eval_loss" in each}


def with_full_disk_at(steps: set[int], patch: pytest.MonkeyPatch) -> None:
    save = TargetSFTTrainer.save_beside

    def saved(self, draft: Path) -> None:
        save(self, draft)
        if self.state.global_step in steps:
            raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(TargetSFTTrainer, "save_beside", saved)


@pytest.mark.failure_case(21)
def test_a_checkpoint_that_could_not_be_written_is_not_the_best(here, trained, capsys, monkeypatch):
    losses = eval_losses(trained / "out")
    best, second, _ = sorted(losses, key=losses.__getitem__)
    with_full_disk_at({best}, monkeypatch)
    said = run(capsys, *TRAIN, "--on-save-error", "continue")
    assert said.code == 0, said.err
    state = json.loads((here / "out" / "trainer_state.json").read_text())
    assert Path(state["best_model_checkpoint"]).name == f"checkpoint-{second}"
    assert state["best_metric"] == losses[second]
    assert weights(here / "out") == weights(trained / "out" / f"checkpoint-{second}")


@pytest.mark.failure_case(21)
def test_where_no_checkpoint_could_be_written_the_last_weights_are_the_result(here, trained, capsys, monkeypatch):
    with_full_disk_at({2, 4, 6}, monkeypatch)
    said = run(capsys, *TRAIN, "--on-save-error", "continue")
    assert said.code == 0, said.err
    assert weights(here / "out") == weights(trained / "out" / "checkpoint-6")


@pytest.mark.failure_case(2)
@pytest.mark.parametrize("harm", ["flipped", "cut", "removed"])
def test_going_on_is_refused_where_the_best_checkpoint_is_damaged(there, capsys, harm):
    best = best_of(there / "out")
    before = weights(there / "out")
    if harm == "removed":
        shutil.rmtree(best)
    elif harm == "cut":
        (best / "model.safetensors").write_bytes(before[:1000])
    else:
        flip(best / "model.safetensors")
    said = run(capsys, *TRAIN, RESUME)
    assert said.code == 2
    words = " ".join(said.err.split())
    assert f"out/{best.name}" in words
    assert ("is not there" if harm == "removed" else "model.safetensors") in words
    assert "load_best_model_at_end: false" in words
    assert "resume_changed: [load_best_model_at_end, greater_is_better, metric_for_best_model]" in words
    assert weights(there / "out") == before
    said = run(
        capsys,
        *LAST,
        RESUME,
        "--resume-changed",
        "load_best_model_at_end",
        "greater_is_better",
        "metric_for_best_model",
    )
    assert said.code == 0, said.err
    assert weights(there / "out") == weights(there / "out" / "checkpoint-6")


@pytest.mark.failure_case(2)
def test_a_run_that_was_moved_finds_its_own_best_checkpoint_and_no_other_runs(there, capsys):
    before = weights(there / "out")
    (there / "out").rename(there / "moved")
    run(capsys, *TRAIN, "--seed", "7")
    assert (there / "out" / best_of(there / "moved").name).is_dir()
    said = run(capsys, *TRAIN, "--output-dir", "moved", RESUME)
    assert said.code == 0, said.err
    assert weights(there / "moved") == before


@pytest.mark.failure_case(2)
def test_a_run_that_went_on_into_another_folder_finds_the_best_checkpoint_where_it_was(there, capsys):
    before = weights(there / "out")
    said = run(capsys, *TRAIN, RESUME, "out/checkpoint-4", "--output-dir", "elsewhere")
    assert said.code == 0, said.err
    assert not (there / "elsewhere" / best_of(there / "out").name).exists()
    (there / "elsewhere" / "model.safetensors").unlink()
    said = run(capsys, *TRAIN, RESUME, "--output-dir", "elsewhere")
    assert said.code == 0, said.err
    assert weights(there / "elsewhere") == before


@pytest.mark.failure_case(2)
def test_one_of_another_run_at_its_place_is_refused(there, capsys):
    best = best_of(there / "out")
    assert run(capsys, *TRAIN, "--seed", "7", "--output-dir", "other").code == 0
    shutil.rmtree(best)
    shutil.copytree(there / "other" / best.name, best)
    said = run(capsys, *TRAIN, RESUME)
    assert said.code == 2
    assert "is of another run" in " ".join(said.err.split())


@pytest.mark.failure_case(2)
def test_damage_while_the_run_is_on_is_found_before_the_weights_are_taken(there, capsys, monkeypatch):
    from qtarget.job.build import JobTrainer

    seal = JobTrainer.seal
    best = best_of(there / "out").name

    def harming(self, folder):
        seal(self, folder)
        if folder.name == "checkpoint-6":
            flip(there / "again" / best / "model.safetensors")

    monkeypatch.setattr(JobTrainer, "seal", harming)
    said = run(capsys, *TRAIN, "--output-dir", "again")
    assert said.code == 1
    words = " ".join(said.err.split())
    assert f"again/{best} is not whole (model.safetensors" in words
    assert "again/checkpoint-6" in words
    assert not (there / "again" / "model.safetensors").exists()
