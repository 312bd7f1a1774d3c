"""`qtarget teacher cache --dry-run`: what a cache takes is said before it is written, and is what it takes then."""

import json

import pytest
from job.command import run as command

from qtarget.job import cache_dry_run
from qtarget.job.config.flags import parse_arguments
from qtarget.job.config.read_job import read_job
from qtarget.job.training import prepare_training
from qtarget.teacher.cache import open_cache

DRY = ("teacher", "cache", "config.yaml", "--teacher-cache", "new/cache", "--dry-run")


def header_bytes(path):
    """Of a safetensors file: the length of its header, and the eight bytes that say it."""
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


def everything_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if not path.is_symlink()}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--teacher-top-k", "5", "--cache-dtype", "float32", "--cache-shard-tokens", "50"],
        ["--cache-bytes-per-token", "100"],
        ["--teacher-top-k", "100000"],
        ["--packing", "--max-length", "64", "--eval-packing", "false"],
    ],
)
def test_what_is_said_is_what_is_written(here, capsys, words):
    before = everything_in(here)
    said = command(capsys, *DRY, "--json", *words)
    assert said.code == 0, said.err
    assert everything_in(here) == before
    (found,) = json.loads(said.out)
    assert command(capsys, *DRY[:-1], *words).code == 0
    manifest = open_cache("new/cache").manifest
    shards = sorted((here / "new/cache").glob("*.safetensors"))
    assert found["bytes"] == sum(path.stat().st_size - header_bytes(path) for path in shards)
    counted = [found[name] for name in ("documents", "tokens", "kept", "shards", "storage_dtype")]
    parts = manifest.parts
    assert counted == [manifest.documents, manifest.tokens, parts["k"], len(shards), parts["storage_dtype"]]


def test_what_the_mass_takes_is_measured_on_a_few_rows(here, capsys):
    words = ["--cache-missing-mass", "0.2", "--cache-max-k", "20"]
    (found,) = json.loads(command(capsys, *DRY, "--json", *words).out)
    assert command(capsys, *DRY[:-1], *words).code == 0
    shards = sorted((here / "new/cache").glob("*.safetensors"))
    size = sum(path.stat().st_size - header_bytes(path) for path in shards)
    assert found["bytes"] == pytest.approx(size, rel=0.15)
    assert not found["at_most"]
    assert (found["kept"], found["pilot"]["documents"]) == (20, 8)
    said = " ".join(command(capsys, *DRY, *words).out.split())
    assert "about: by their mass up to 20 kept at each, in float16" in said


def test_without_the_teacher_bytes_by_mass_are_a_bound(here, capsys, monkeypatch):
    words = ["--cache-missing-mass", "0.2", "--cache-max-k", "20"]
    monkeypatch.setattr(cache_dry_run, "free_bytes", lambda device: 1000)
    (found,) = json.loads(command(capsys, *DRY, "--json", *words).out)
    assert found["at_most"]
    assert "at most: by their mass up to 20 kept at each" in " ".join(command(capsys, *DRY, *words).out.split())
    monkeypatch.setattr(cache_dry_run, "free_on_disk", lambda folder: 1000)
    assert "leave more out (`cache_missing_mass`)" in " ".join(command(capsys, *DRY, *words).out.split())
    said = " ".join(command(capsys, "estimate", "config.yaml", *words).out.split())
    assert "at most: 20 tokens at each, were it written" in said
    assert command(capsys, *DRY[:-1], *words).code == 0
    assert sum(path.stat().st_size for path in (here / "new/cache").glob("*.safetensors")) < found["bytes"] + 1000


def test_a_live_teacher_reads_what_the_break_even_says(here, capsys, monkeypatch):
    words = ["--max-steps", "-1", "--num-train-epochs", "2", "--eval-strategy", "epoch", "--save-strategy", "no"]
    words += ["--per-device-train-batch-size", "1", "--per-device-eval-batch-size", "1"]  # so that nothing is padding
    (found,) = json.loads(command(capsys, *DRY, "--json", *words).out)
    trainer = prepare_training(read_job(parse_arguments(["config.yaml", *words])))
    teacher, read = trainer.teachers[0].model, []
    teacher.register_forward_hook(
        lambda module, args, kwargs, out: read.append((kwargs.get("input_ids", *args[:1])).numel()), with_kwargs=True
    )
    trainer.train()
    assert found["read_live"] == sum(read)
    assert found["break_even"] == pytest.approx(found["read"] / sum(read))
    assert found["pays_from"] == 1
    assert found["live_seconds"] / found["seconds"] == pytest.approx(sum(read) / found["read"])


def test_it_pays_later_where_a_run_sees_few_of_the_rows(here, capsys):
    said = command(capsys, *DRY, "--max-steps", "1", "--eval-dataset", "null")
    assert "break-even" in said.out
    assert "a cache costs less from 9 runs on" in " ".join(said.out.split())  # 16 rows, two a run


def test_a_teacher_without_weights_is_counted_and_its_hours_are_unknown(here, capsys):
    (here / "empty").mkdir()
    for path in (here / "teacher").iterdir():
        if not path.name.endswith(".safetensors"):
            (here / "empty" / path.name).write_bytes(path.read_bytes())
    words = (*DRY, "--teacher", "empty")
    said = command(capsys, *words)
    assert said.code == 0, said.err
    shown = " ".join(said.out.split())
    assert "teacher time unknown" in shown
    assert "empty was not asked:" in shown
    assert "seconds = tokens read / (tokens a second of the model)" in shown
    (found,) = json.loads(command(capsys, *words, "--json").out)
    assert (found["pilot"], found["seconds"]) == (None, None)
    assert found["unknown"]
    assert found["bytes"] > 0
    assert found["break_even"] > 0


def test_a_teacher_larger_than_memory_is_not_loaded(here, capsys, monkeypatch):
    monkeypatch.setattr(cache_dry_run, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(cache_dry_run, "open_to_cache", lambda *_: pytest.fail("it was loaded"))
    (found,) = json.loads(command(capsys, *DRY, "--json").out)
    assert "and 1 kB of memory are free" in found["unknown"]


def test_a_full_disk_and_json_without_a_dry_run_are_told_of(here, capsys, monkeypatch):
    monkeypatch.setattr(cache_dry_run, "free_on_disk", lambda folder: 1000)
    assert "keep fewer tokens (`teacher_top_k`)" in " ".join(command(capsys, *DRY).out.split())
    said = command(capsys, *DRY[:-1], "--json")
    assert said.code == 2
    assert "--json is for --dry-run" in said.err
    assert not (here / "new").exists()


def test_the_reference_is_counted_too(here, capsys):
    words = ["--method", "iw-sft", "--eta", "null", "--teacher", "null", "--reference-cache", "cache", "--dry-run"]
    (found,) = json.loads(command(capsys, "teacher", "cache", "config.yaml", *words, "--json").out)
    assert (found["name"], found["kept"], found["bytes_per_token"]) == ("reference", 0, 14)
    assert found["pilot"]["warning"] is None
