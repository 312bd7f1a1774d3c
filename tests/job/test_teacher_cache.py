"""`qtarget teacher cache` and `verify` on a user's own model and rows, and training from what they wrote."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from job.command import run as command
from job.directories import write_rows
from job.launched import launched
from job.stopped import end_of, held, started
from tiny_models import sentence

from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import read_job
from qtarget.job.training import prepare_training
from qtarget.teacher import documents_of_rows
from qtarget.teacher.cache import open_cache

WRITE = ("teacher", "cache", "config.yaml", "--teacher-cache", "cache")
WHOLE = ("--teacher-top-k", "1000", "--cache-dtype", "float32")
SMALL = ("--cache-shard-tokens", "1", "--cache-batch-tokens", "1", "--train-dataset", "many.jsonl")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def figures(folder: Path) -> dict[str, dict[str, float]]:
    """The losses of a run."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return {part: {name: metrics[part][name] for name in ("loss", "nll")} for part in ("train", "eval")}


def many_rows(folder: Path, count: int = 200) -> None:
    rng = random.Random(3)
    write_rows(
        folder / "many.jsonl", [{"prompt": sentence(rng), "completion": " " + sentence(rng)} for _ in range(count)]
    )


def wait_until_it_waits(run: int, folder: Path) -> None:
    """Until a run says that it waits for a shard."""
    log = folder / "out" / "train.log"
    while not (log.exists() and "Waiting for shard-" in log.read_text("utf-8")):
        assert os.waitpid(run, os.WNOHANG) == (0, 0)
        time.sleep(0.01)


def test_training_from_a_whole_cache_is_training_from_the_live_teacher(here, finished, capsys):
    said = command(capsys, *WRITE, *WHOLE)
    assert said.code == 0, said.err
    for shown in ("teacher 0: 329 tokens in 1 shard", "329 in 20 documents", "bytes a token", "tokens/s", "captured"):
        assert shown in said.out
    assert not (here / "out").exists()
    assert command(capsys, "train", "config.yaml", "--teacher-cache", "cache").code == 0
    cached, live = figures(here / "out"), figures(finished)
    assert {part: pytest.approx(cached[part], rel=1e-5) for part in cached} == live


def test_every_row_of_training_and_evaluation_is_in_it_however_it_is_cut(here, capsys):
    for number, words in enumerate(
        (
            ["--max-length", "12", "--truncation-mode", "keep_end"],
            ["--packing", "--max-length", "64", "--eval-packing", "false"],
            ["--train-dataset", "chat.jsonl", "--eval-dataset", "null", "--assistant-only-loss"],
        )
    ):
        folder = f"cache{number}"
        said = command(capsys, "teacher", "cache", "config.yaml", "--teacher-cache", folder, *words)
        assert said.code == 0, said.err
        said = command(capsys, "validate", "config.yaml", "--teacher-cache", folder, *words)
        assert said.code == 0, said.err


@pytest.mark.failure_case(11)
def test_a_cache_of_rows_rendered_otherwise_is_refused_by_training(here, capsys):
    assert command(capsys, *WRITE, "--max-length", "12").code == 0
    said = command(capsys, "train", "config.yaml", "--teacher-cache", "cache")
    assert said.code == 2
    assert "truncation" in said.err
    assert "documents of the train data set" in said.err


def test_what_is_kept_follows_from_the_method(here, capsys):
    words = ["--method", "kd", "--temperature", "2.0", "--eta", "null"]
    assert command(capsys, *WRITE, *words).code == 0
    assert open_cache("cache").manifest.parts["temperature"] == 2.0
    words = ["--method", "kd", "--eta", "null", "--cache-sampled", "--cache-bytes-per-token", "100"]
    assert command(capsys, "teacher", "cache", "config.yaml", "--teacher-cache", "draws", *words).code == 0
    parts = open_cache("draws").manifest.parts
    assert (parts["how"], parts["k"], parts["storage_dtype"]) == ("sampled", 14, "float16")
    assert command(capsys, "validate", "config.yaml", "--teacher-cache", "draws", *words[:4]).code == 0


def test_the_model_itself_is_written_down_as_its_reference(here, capsys):
    words = ["--method", "asft", "--eta", "null", "--teacher", "null", "--reference-cache", "cache"]
    said = command(capsys, "teacher", "cache", "config.yaml", *words, *WHOLE)
    assert said.code == 0, said.err
    parts = open_cache("cache").manifest.parts
    assert command(capsys, "train", "config.yaml", *words).code == 0
    assert command(capsys, "train", "config.yaml", *words[:-2], "--output-dir", "live").code == 0
    cached, live = figures(here / "out"), figures(here / "live")
    assert {part: pytest.approx(cached[part], rel=1e-5) for part in cached} == live
    assert parts["compute_dtype"] == "float32"


def test_a_method_that_reads_the_label_only_gets_no_more(here, capsys):
    words = ["--method", "iw-sft", "--eta", "null", "--teacher", "null", "--reference-cache", "cache"]
    assert command(capsys, "teacher", "cache", "config.yaml", *words).code == 0
    assert open_cache("cache").keep.k == 0
    assert command(capsys, "validate", "config.yaml", *words).code == 0


@pytest.mark.failure_case(1)
def test_killed_and_started_again_it_goes_on(here, capsys):
    many_rows(here, 100)
    child = held((*WRITE, *SMALL), "shard-00003.json", here)
    os.kill(child, signal.SIGKILL)
    assert end_of(child, here).code == -signal.SIGKILL
    done = sorted((here / "cache").glob("shard-*.json"))
    assert not (here / "cache" / "manifest.json").exists()
    before = {path: path.stat().st_mtime_ns for path in done}
    said = command(capsys, "train", "config.yaml", "--teacher-cache", "cache")
    assert said.code == 2
    assert "is not finished" in said.err
    assert command(capsys, *WRITE, *SMALL).code == 0
    assert {path: path.stat().st_mtime_ns for path in done} == before
    assert command(capsys, "teacher", "cache", "config.yaml", "--teacher-cache", "whole", *SMALL).code == 0
    assert contents(here / "cache") == contents(here / "whole")
    said = command(capsys, *WRITE, *SMALL)
    assert "nothing: every shard was there" in said.out


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")])
def test_stopped_by_the_user_it_says_what_stays(here, number, code, name):
    many_rows(here)
    child = held((*WRITE, *SMALL), "shard-00003.json", here)
    os.kill(child, number)
    os.kill(child, signal.SIGCONT)
    returned, _, err = end_of(child, here)
    done = len(list((here / "cache").glob("shard-*.json")))
    assert returned == code, err
    assert f"stopped by {name} with {done} of " in " ".join(err.split())
    assert "the same command goes on from there" in " ".join(err.split())
    assert not list((here / "cache").glob("*.tmp"))


def test_two_processes_write_what_one_writes(here, capsys):
    assert command(capsys, *WRITE, "--cache-shard-tokens", "40").code == 0
    words = ("teacher", "cache", "config.yaml", "--teacher-cache", "two", "--cache-shard-tokens", "40")
    both = launched((*words, "--ddp-backend", "gloo", "--use-cpu"), folder=here)
    assert both.codes == [0, 0], both
    assert len(contents(here / "two")) > 10
    assert contents(here / "two") == contents(here / "cache")
    assert ["tokens/s" in rank.out for rank in both.ranks] == [True, False]


BY_MASS = ("--cache-missing-mass", "0.2", "--cache-max-k", "20", "--cache-min-k", "2")


def test_training_from_as_many_tokens_as_the_mass_asks_for(here, finished, capsys):
    said = command(capsys, *WRITE, *BY_MASS)
    assert said.code == 0, said.err
    assert "teacher 0: 329 tokens in 1 shard, at most" in said.out
    parts = open_cache("cache").manifest.parts
    assert (parts["k"], parts["min_k"], parts["missing_mass"], parts["format"]) == (20, 2, 0.2, 2)
    said = command(capsys, "teacher", "verify", "cache")
    assert "2 to 20 likeliest tokens, until 0.2 of the mass is left in float16" in " ".join(said.out.split())
    assert command(capsys, "train", "config.yaml", "--teacher-cache", "cache").code == 0
    cached, live = figures(here / "out"), figures(finished)
    assert {
        part: pytest.approx(cached[part], rel=0.1) for part in cached
    } == live  # a flat teacher, and 20 tokens of it
    assert cached != live


FOLLOW = ("train", "config.yaml", "--teacher-cache", "cache", "--follow-cache")
FOLLOW += ("--train-sampling-strategy", "sequential", "--train-dataset", "many.jsonl", "--max-steps", "30")


def test_a_run_begins_on_what_is_there_and_ends_as_if_all_had_been(here, capsys):
    many_rows(here, 100)
    writer = held((*WRITE, *SMALL, *BY_MASS), "shard-00003.json", here)
    os.kill(writer, signal.SIGKILL)
    assert end_of(writer, here).code == -signal.SIGKILL
    run = started((*FOLLOW, "--eval-strategy", "no"), folder=here)
    wait_until_it_waits(run, here)
    assert command(capsys, *WRITE, *SMALL, *BY_MASS).code == 0
    ended = end_of(run, here)
    assert ended.code == 0, ended
    words = (*FOLLOW, "--eval-strategy", "no", "--output-dir", "again")
    assert command(capsys, *words).code == 0
    assert figures(here / "out") == figures(here / "again")


def test_nobody_writes_on_and_the_run_says_so(here, capsys):
    many_rows(here, 100)
    writer = held((*WRITE, *SMALL), "shard-00003.json", here)
    os.kill(writer, signal.SIGKILL)
    end_of(writer, here)
    said = command(capsys, *FOLLOW, "--teacher-timeout", "0.3")
    assert said.code != 0
    assert "nobody has been writing to it for 0.3 s" in " ".join(said.err.split())
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--teacher-cache cache --train-sampling-strategy random", "Write `train_sampling_strategy: sequential`"),
        ("--teacher-cache cache --packing --max-length 64", "packed rows hold many. Write `packing: false`"),
        ("--train-sampling-strategy sequential", "no cache is given; write `teacher_cache: folder`"),
    ],
)
def test_what_cannot_follow_a_cache_is_refused(here, capsys, words, said):
    found = command(capsys, "train", "config.yaml", "--follow-cache", *words.split())
    assert found.code == 2
    assert said in " ".join(found.err.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--cache-missing-mass 0",
            "`cache_missing_mass: 0` is out of range; expected a number above 0 and less than 1",
        ),
        (
            "--cache-missing-mass 1",
            "`cache_missing_mass: 1` is out of range; expected a number above 0 and less than 1",
        ),
        ("--cache-min-k 4", "`cache_min_k` bounds how many tokens `cache_missing_mass` keeps"),
        ("--cache-missing-mass 0.1 --cache-min-k 9 --cache-max-k 8", "expected 1 ≤ `cache_min_k` ≤ `cache_max_k`"),
        ("--cache-missing-mass 0.1 --cache-max-k 99999", "`cache_max_k: 99999` is more than the"),
        ("--cache-missing-mass 0.1 --teacher-top-k 8", "`teacher_top_k` and `cache_missing_mass` each say"),
        ("--cache-missing-mass 0.1 --cache-bytes-per-token 80", "`cache_bytes_per_token` and `cache_missing_mass`"),
        ("--cache-missing-mass 0.1 --cache-sampled", "`cache_sampled` and `cache_missing_mass` each say"),
        ("--teacher-cache null", "write `teacher_cache: folder`"),
        ("--teacher null", "no `teacher` is given; write `teacher: path/or/hub-name`"),
        ("--teacher http://127.0.0.1:9 --teacher-timeout 1", "http://127.0.0.1:9 was away for 1 s"),
        ("--method sft --eta null", '"sft" reads no teacher'),
        ("--cache-sampled", '`cache_sampled: true`: "target-sft" is not linear in the teacher'),
        (
            "--cache-bytes-per-token 19",
            "leaves no room for a token; expected at least 20, which keep one; 398 keep 64",
        ),
        ("--cache-dtype float8", "`cache_dtype: 'float8'` is not accepted"),
        ("--cache-shard-tokens 0", "`cache_shard_tokens: 0` is out of range; expected 1 or more"),
        ("--cache-topk 3", "unknown key `cache_topk`"),
        ("--teacher llama", "another tokenizer than the student"),
        ("--teacher-cache rows", "holds a.txt and no plan.json"),
        ("--train-dataset nothing.jsonl", "nothing.jsonl is not there"),
        ("--method psft --eta null --teacher null --teacher-cache null --reference-cache c", "cannot be written ahead"),
        ("--teacher-init-kwargs {device_map: fsdp}", "`device_map: auto`, and start one process"),
    ],
)
def test_what_cannot_be_written_is_refused(here, capsys, words, said):
    (here / "rows").mkdir()
    (here / "rows" / "a.txt").write_text("mine")
    words = words.replace("{device_map: fsdp}", "{device_map:fsdp}").split()
    words = [word.replace("{device_map:fsdp}", "{device_map: fsdp}") for word in words]
    before = sorted(path.name for path in here.iterdir())
    default = () if "--teacher-cache" in words else ("--teacher-cache", "cache")
    found = command(capsys, "teacher", "cache", "config.yaml", *default, *words)
    assert (found.code, "Traceback" in found.err) == (75 if "was away" in said else 2, False)
    assert said in found.err
    assert sorted(path.name for path in here.iterdir()) == before


KD = ("--method", "kd", "--eta", "null")
NO_END = (
    "{% for message in messages %}{% generation %}{{ message.content }}{% endgeneration %}{% endfor %}"
    "{% if add_generation_prompt %} {% endif %}"
)
"""A chat template whose turns end with a word."""
REFUSED_RUNS = {
    "the student under its own name": (
        (*KD, "--teacher", "qwen2"),
        "its gradient is zero and nothing would be learned",
    ),
    "the student": ((*KD, "--teacher", "self"), "its gradient is zero and nothing would be learned"),
    "no end": (
        ("--train-dataset", "chat.jsonl", "--eval-dataset", "null", "--chat-template-path", "endless.jinja"),
        "No row of the train data set teaches the model to stop",
    ),
    "an argument that no model takes": (("--model-init-kwargs", "{dtpe: float32}"), "dtpe"),
}


@pytest.mark.parametrize("case", REFUSED_RUNS)
def test_nothing_is_written_for_a_run_that_would_be_refused_whatever_a_cache_holds(here, capsys, case):
    words, said = REFUSED_RUNS[case]
    (here / "endless.jinja").write_text(NO_END)
    validated = command(capsys, "validate", "config.yaml", *words)
    written = command(capsys, *WRITE, *words)
    assert (validated.code, written.code) == (2, 2), written
    assert said in written.err, written.err
    assert written.err == validated.err
    assert not (here / "cache").exists()


def test_a_cache_that_would_not_serve_the_method_is_not_asked_for(here, capsys):
    words = ("--method", "akl", "--eta", "null", "--teacher-cache", "cache")
    said = command(capsys, "validate", "config.yaml", *words)
    assert said.code == 2, said
    assert 'cache is no teacher cache, and one of 64 tokens would not do: "akl"' in said.err
    assert "in a configuration a live model (`teacher: path/or/hub-name`), without `teacher_cache`" in said.err
    assert "Write one" not in said.err
    assert "Write one with `qtarget teacher cache" in command(capsys, "validate", *WRITE[2:]).err


def test_what_we_warn_of_is_a_note_as_everywhere(here, capsys):
    said = command(capsys, "teacher", "cache", "config.yaml", "--teacher-cache", "cache")
    assert said.code == 0
    assert said.err.count("note: The teacher puts ") == 1
    assert "UserWarning" not in said.err


def test_nothing_goes_to_the_hub_yet(here, capsys):
    said = command(capsys, *WRITE, "--push-to-hub", "--hub-token", "hf_secret")
    assert said.code == 0, said.err
    assert not [name for name, content in contents(here / "cache").items() if b"hf_secret" in content]


def test_a_folder_of_another_teacher_is_refused(here, capsys):
    assert command(capsys, *WRITE).code == 0
    before = contents(here / "cache")
    found = command(capsys, *WRITE, "--teacher", "qwen2", "--teacher-top-k", "32")
    assert found.code == 2
    assert "k: 64 in the cache, 32 now" in found.err
    assert "teacher: " in found.err
    assert contents(here / "cache") == before


def test_verify_shows_and_checks(here, capsys):
    assert command(capsys, *WRITE).code == 0
    said = command(capsys, "teacher", "verify", "cache")
    assert said.code == 0
    for shown in ("329 in 20 documents", "mass captured", "█", "64 likeliest tokens in float16", "target agrees"):
        assert shown in said.out
    report = json.loads(command(capsys, "teacher", "verify", "cache", "--json").out)
    assert (report["tokens"], report["problems"], report["parts"]["k"]) == (329, [], 64)
    shutil.copytree(here / "cache", here / "broken")
    path = here / "broken" / "shard-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    said = command(capsys, "teacher", "verify", "broken")
    assert said.code == 1
    assert "shard-00000.safetensors is damaged" in " ".join(said.out.split())
    assert command(capsys, "teacher", "verify", "nowhere").code == 2


def test_the_rows_are_those_of_the_run(here, capsys):
    assert command(capsys, *WRITE).code == 0
    trainer = prepare_training(read_job(RunArguments(Path("config.yaml"), {})))
    rows = [*documents_of_rows(trainer.train_dataset), *documents_of_rows(trainer.eval_dataset)]
    cache = open_cache("cache")
    assert cache.missing(rows) == []
    assert cache.manifest.documents == len({one.digest for one in rows})
