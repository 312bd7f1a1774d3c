"""Errors of libraries that a user can cause are words: a chat template that fails, a disk that is full, and what a
checkpoint is resumed with."""

import json
import os
import re
import resource
import shutil
import signal
from pathlib import Path

import pytest
from job.command import run as command

SFT = ("--method", "sft", "--eta", "null", "--teacher", "null", "--eval-dataset", "null")
CHAT = ("--train-dataset", "chat.jsonl", *SFT)

TEMPLATES = {
    "no end": ("{% for m in messages %}{{ m.content }", "line 1"),
    "undefined": ("a\n{{ nothing.there.at.all }}", "line 2"),
    "refuses": ("{{ raise_exception('only even turns') }}", "only even turns"),
    "escapes": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    "divides": ("{{ 1 / 0 }}", "ZeroDivisionError"),
    "adds": ("{{ messages + 3 }}", "TypeError"),
}


def with_template(folder: Path, text: str) -> str:
    """A copy of the model whose tokenizer has a chat template of ours."""
    shutil.copytree("qwen2", folder)
    for file in folder.glob("chat_template*"):
        file.unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": text}))
    return folder.name


@pytest.mark.parametrize("case", TEMPLATES)
def test_a_chat_template_that_fails(here, capsys, case):
    text, said = TEMPLATES[case]
    found = command(capsys, "train", "config.yaml", "--model", with_template(here / "broken", text), *CHAT)
    assert (found.code, "Traceback" in found.err) == (2, False), found.err
    assert said in found.err
    assert not (here / "out").exists()


def test_a_template_file_that_is_none(here, capsys):
    (here / "bad.jinja").write_text("{% for %}")
    found = command(capsys, "train", "config.yaml", *CHAT, "--chat-template-path", "bad.jinja")
    assert found.code == 2
    assert "the chat template, line 1, fails" in found.err


@pytest.mark.parametrize(
    ("began", "goes_on", "said"),
    [
        ((), ("--optim", "sgd"), "written by another optimizer than `optim: sgd`"),
        ((), ("--use-peft", "--lora-target-modules", "all-linear"), "holds no adapter, and this run has one"),
        (("--use-peft", "--lora-target-modules", "all-linear"), (), "write `use_peft: true`"),
        (
            ("--use-peft", "--lora-target-modules", "all-linear"),
            ("--use-peft", "--lora-target-modules", "all-linear", "--lora-r", "4"),
            "write `lora_r: 16`",
        ),
    ],
)
def test_a_checkpoint_of_another_adapter_or_optimizer(here, capsys, began, goes_on, said):
    assert command(capsys, "train", "config.yaml", *SFT, "--max-steps", "2", *began).code == 0
    before = sorted(os.listdir(here / "out"))
    found = command(capsys, "train", "config.yaml", *SFT, "--max-steps", "4", "--resume-from-checkpoint", *goes_on)
    assert (found.code, "Traceback" in found.err) == (2, False)
    assert said in found.err
    assert sorted(os.listdir(here / "out")) == before
    longer = ("--max-steps", "3", "--resume-from-checkpoint", "--resume-changed", "max_steps")
    assert command(capsys, "train", "config.yaml", *SFT, *longer, *began).code == 0


@pytest.mark.failure_case(3)
@pytest.mark.parametrize(
    "words",
    [("--learning-rate", "1e30", "--weight-decay", "1e30"), ("--optim", "adamw_torch", "--learning-rate", "1e38")],
)
def test_numbers_that_are_too_large_together(here, capsys, words):
    found = command(capsys, "train", "config.yaml", *SFT, *words)
    assert (found.code, "Traceback" in found.err) == (1, False), found.err
    assert "learning_rate" in found.err
    assert not (here / "out" / "model.safetensors").exists()


@pytest.fixture
def file_limit():
    """No file can grow beyond so many bytes, as on a disk that is almost full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


CACHE = ("teacher", "cache", "config.yaml", "--teacher-cache", "kept", "--teacher-top-k", "200")


@pytest.mark.failure_case(21)
@pytest.mark.parametrize(("words", "size"), [(("train", "config.yaml", *SFT), 70_000), (CACHE, 70_000)])
def test_a_disk_that_fills_up(here, capsys, file_limit, words, size):
    file_limit(size)
    found = command(capsys, *words)
    assert (found.code, "Traceback" in found.err) == (75, False), found.err
    assert "larger than this system allows" in found.err or "the disk is full" in found.err
    assert re.search("No checkpoint was written before|start the same command again; it goes on", found.err)


def test_a_disk_that_is_full_before_the_work(here, capsys, file_limit):
    file_limit(1000)
    found = command(capsys, *CACHE)
    assert found.code == 75
    assert "`teacher_cache: " in found.err
    assert "kept` cannot be written to" in found.err
    assert not (here / "kept").exists()
