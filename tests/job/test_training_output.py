"""What `qtarget train` prints: a table that is ours alone; and the picture and the log beside the model."""

import logging
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from job.stopped import Signalling, ended
from PIL import Image

from qtarget.cli.training_commands import _resuming
from qtarget.job.training_columns import TABLE_COLUMNS, chosen_columns, clock, heading, row
from qtarget.job.training_picture import draw_training

LINES = re.compile(
    r"(objective|model    |rows     |form     |precision|output   |training |trained  |train    |eval     ) .+"
    r"|model and card are in out, all figures in out/metrics.json, a picture in out/training.png"
    r"|  (step|loss|nll|trust|grad norm|rate|tokens|left) +\S.+"
    r"|   step          loss      nll    trust  grad norm      rate   tokens      left"
    r"|      \d      ( +[\d.e:+-]+){7}"
    r"|      \d eval ( +[\d.]+){4}"
)
ALONE = ("--teacher", "null", "--method", "dft", "--eta", "null")


def test_a_clean_run_prints_nothing_but_ours(here):
    """A whole process with all of its imports, and Python told to show every warning once."""
    environment = {**os.environ, "PYTHONWARNINGS": "default", "COLUMNS": "80"}
    words = ("train", "config.yaml", *ALONE, "--eval-strategy", "steps", "--eval-steps", "2")
    run = [sys.executable, "-m", "qtarget", *words, "--disable-tqdm", "false"]
    said = subprocess.run(run, capture_output=True, text=True, encoding="utf-8", env=environment, cwd=here)
    assert said.returncode == 0, said.stderr
    assert said.stderr == ""
    assert [line for line in said.stdout.splitlines() if not LINES.fullmatch(line)] == []
    table = said.stdout.splitlines()[6:-3]
    assert [line for line in table if len(line) > 80] == []
    assert [line[:12].split() for line in table[-7:-1]] == [["1"], ["2"], ["2", "eval"], ["3"], ["4"], ["4", "eval"]]
    kept = (here / "out" / "train.log").read_text(encoding="utf-8")
    assert "`gradient_checkpointing` is deprecated" in kept
    assert "Updated tokens: {'eos_token_id': 300}" in kept
    assert "%|" not in kept
    card = (here / "out" / "README.md").read_text(encoding="utf-8")
    assert "](training.png)" in card
    with Image.open(here / "out" / "training.png") as picture:
        assert picture.size == (900, 684)


def test_on_a_terminal_a_line_of_progress_comes_and_goes(here):
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(COLUMNS="80", TERM="xterm", COLORTERM="")
        for each in (Signalling(torch.optim.AdamW, "step", 2), Signalling(torch.optim.AdamW, "step", 2)):
            each.install()
        _main_on_this_terminal(["train", "config.yaml", *ALONE, "--disable-tqdm", "false"])
    shown = b""
    while chunk := _read(terminal):
        shown += chunk
    _, status = os.waitpid(child, 0)
    text = shown.decode()
    assert os.waitstatus_to_exitcode(status) == 130
    assert re.search(r"step 2 of 4, [\d:]+ left", text), text
    assert "ended at once, after step 2" in text
    assert "%|" not in text


def _main_on_this_terminal(words: list[str]) -> None:
    from qtarget.cli.main import main

    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(words)
    except SystemExit as stopped:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(stopped.code or 0))
    os._exit(99)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize("passes_on", [False, True])
def test_errors_that_libraries_log_are_shown_once(here, monkeypatch, passes_on):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", passes_on)
    script = 'import logging, sys, warnings; logging.getLogger("transformers").error("it broke")\n'
    script += 'logging.getLogger("transformers").warning("noise"); logging.getLogger("trl").warning("more noise")\n'
    script += 'warnings.warn("a library\'s"); print("\\rMapping: 5%|", file=sys.stderr)\n'
    (here / "noisy.py").write_text(script)
    said = ended(["train", "config.yaml", *ALONE, "--learning-rat", "1"], _noise(here), folder=here)
    assert said.code == 2
    assert said.err == "transformers: it broke\n" + (
        "--learning_rat: unknown key `learning_rat`; did you mean `learning_rate`?\n"
    )


def _noise(folder: Path) -> Signalling:
    """Runs a library's noise in the place of a signal."""
    import qtarget.job.config.flags as flags

    def run(*arguments) -> bool:
        exec((folder / "noisy.py").read_text(), {"__name__": "library"})
        return False

    return Signalling(flags, "parse_arguments", where=run)


@pytest.mark.parametrize(("width", "last"), [(80, "left"), (100, "KL(Q||p)"), (40, "trust")])
def test_the_table_fits_the_terminal(width, last):
    logged = [column.name for column in TABLE_COLUMNS if column.name != "aux_loss"]
    columns = chosen_columns(logged, width)
    assert columns[-1].heading == last
    worst = dict.fromkeys(logged, 123456.789) | {"num_tokens": 987_654_321_012, "left": 90_061.0}
    for line in (heading(columns), row(1_234_567, worst, columns, "eval")):
        assert len(line) <= width, line


def test_columns_follow_what_is_logged_and_what_is_not_measured_stays_empty():
    columns = chosen_columns(["loss", "nll", "scale"], 80)
    assert [column.heading for column in columns] == ["loss", "nll", "left", "scale"]
    assert row(3, {"loss": float("nan"), "scale": 1.0}, columns) == f"{3:>7}{'nan':>14}{'':19}{'1.0000':>9}"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (65, "1:05"), (3665, "1:01:05"), (90061, "1d 01h"), (-1, "0:00")]
)
def test_a_time_is_short(seconds, shown):
    assert clock(seconds) == shown


def test_a_log_without_losses_has_no_picture(tmp_path):
    assert not draw_training([{"step": 1, "train_runtime": 2.0}], "sft", tmp_path)
    assert draw_training([{"step": 1, "loss": 2.0}, {"step": 2, "eval_loss": 1.0}], "sft", tmp_path)


@pytest.mark.parametrize(
    ("words", "resumed"),
    [
        ("config.yaml", "config.yaml"),
        ("config.yaml --resume-from-checkpoint out/checkpoint-2 --eta 0.5", "config.yaml --eta 0.5"),
        ("--resume_from_checkpoint=out/x --model m", "--model m"),
    ],
)
def test_the_line_that_resumes(words, resumed):
    assert _resuming(words.split())("") == f"`qtarget train {resumed} --resume-from-checkpoint`"
