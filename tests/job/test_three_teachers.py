"""The lab trained from its live teacher, from a cache of it and from a server: the same losses, by command alone."""

import json
from pathlib import Path

import pytest
from job.command import run as command
from job.directories import write_rows
from teacher.serving import serving

from qtarget import lab

WORLD = lab.world("weak-operator")
CONFIG = f"""\
model: {lab.student_path(WORLD)}
train_dataset: rows.jsonl
eval_dataset: held.jsonl
method: target-sft
max_steps: 6
logging_steps: 1
save_strategy: no
learning_rate: 1e-3
lr_scheduler_type: constant
per_device_train_batch_size: 8
gradient_checkpointing: false
disable_tqdm: true
"""
TEACHER = str(lab.teacher_path(WORLD))
BOUNDS = {"float32 cache": 1e-5, "server": 1e-5, "float16 cache": 2e-4}
"""Largest relative deviation from the live teacher, at K = V. float16 rounds a log-probability by one part in 2048."""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    rows = [dict(row) for row in lab.demonstrations(WORLD, seed=0)]
    write_rows(tmp_path / "rows.jsonl", rows[:64])
    write_rows(tmp_path / "held.jsonl", rows[64:72])
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def losses(capsys, output: str, *words: str) -> list[float]:
    """Every training loss, then the evaluation's."""
    said = command(capsys, "train", "config.yaml", "--output-dir", output, *words)
    assert said.code == 0, said.err
    logged = json.loads((Path(output) / "trainer_state.json").read_text())["log_history"]
    return [entry[name] for name in ("loss", "eval_loss") for entry in logged if name in entry]


def test_live_cached_and_served_give_the_same_losses(here, capsys):
    live = losses(capsys, "live", "--teacher", TEACHER)
    found = {}
    for dtype in ("float32", "float16"):
        words = ("--teacher", TEACHER, "--teacher-cache", dtype)
        written = command(capsys, "teacher", "cache", "config.yaml", *words, "--cache-dtype", dtype)
        assert written.code == 0, written.err
        assert command(capsys, "teacher", "verify", dtype).code == 0
        found[f"{dtype} cache"] = losses(capsys, f"from-{dtype}", *words)
    with serving(Path(TEACHER)) as server:
        found["server"] = losses(capsys, "served", "--teacher", server.url)
    assert len(live) == 7
    deviations = {name: max(abs(a / b - 1) for a, b in zip(f, live, strict=True)) for name, f in found.items()}
    assert all(deviation <= BOUNDS[name] for name, deviation in deviations.items()), deviations


def test_a_server_that_is_gone_for_good_leaves_a_checkpoint_to_go_on_from(here, capsys, monkeypatch):
    from qtarget.job.build import JobTrainer

    logged = JobTrainer.log
    with serving(Path(TEACHER)) as server:

        def log(self, *args, **kwargs):
            logged(self, *args, **kwargs)
            if self.state.global_step == 2:
                server.kill()

        monkeypatch.setattr(JobTrainer, "log", log)
        words = ("train", "config.yaml", "--output-dir", "out", "--teacher", server.url, "--teacher-timeout", "5")
        said = command(capsys, *words)
    assert said.code == 75
    assert "--resume-from-checkpoint" in said.err
    (checkpoint,) = Path("out").glob("checkpoint-*")
    assert (checkpoint / "optimizer.pt").is_file()
    monkeypatch.undo()
    monkeypatch.chdir(here)
    resumed = command(
        capsys, "train", "config.yaml", "--output-dir", "out", "--teacher", TEACHER, "--resume-from-checkpoint"
    )
    assert resumed.code == 2
    assert "teachers.0: a server's model, " in resumed.err
    going_on = ("--resume-from-checkpoint", "--resume-changed", "teachers")
    resumed = command(capsys, "train", "config.yaml", "--output-dir", "out", "--teacher", TEACHER, *going_on)
    assert resumed.code == 0, resumed.err
    assert json.loads(Path("out/trainer_state.json").read_text())["global_step"] == 6
