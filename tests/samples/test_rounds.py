"""`rounds: R`: each round's folder, what it trains on, and what is refused; kill -9 at each stage ends the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from job.command import run as command
from job.directories import write_rows
from job.gates import Gate
from job.stopped import Signalling, ended
from safetensors.torch import load_file, save_file
from samples.drawn import lab_rows, rows_in, write_config

from qtarget.disk.files import first_difference
from qtarget.evaluate import store
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import read_job
from qtarget.models.identity import weights_identity
from qtarget.samples.rounds_plan import plan_of_rounds
from qtarget.samples.run_rounds import check_rounds_can_run

ROUNDS = ("--rounds", "2")
WRITTEN = ("model/model.safetensors", "samples/prompts/samples.jsonl", "samples/rows.jsonl", "train.yaml")


def trained(capsys, *words: str, config: str = "config.yaml", out: str = "out"):
    return command(capsys, "train", config, *ROUNDS, "--output-dir", out, *words)


def state(out: Path) -> dict[str, str]:
    """What of rounds must be the same after any way there; the folder's own name is taken out."""
    files = [
        *(out / name for name in ("rounds.json", "table.md")),
        *(out / f"round-{n}" / name for n in (1, 2) for name in WRITTEN),
    ]
    found = {}
    for path in files:
        content = path.read_bytes()
        is_text = path.suffix != ".safetensors"
        found[str(path.relative_to(out))] = (
            content.replace(out.name.encode(), b"OUT").hex() if is_text else content.hex()
        )
    found.pop("rounds.json")  # its checksum is of the folder's name too
    found["rounds"] = json.dumps(json.loads((out / "rounds.json").read_text())["rounds"]).replace(out.name, "OUT")
    return found


def test_each_round_samples_from_the_student_before_it(here, capsys):
    said = trained(capsys)
    assert said.code == 0, said.err
    records = json.loads((here / "out/rounds.json").read_text())["rounds"]
    assert [each["writer"] for each in records] == ["student", "out/round-1/model"]
    for number, record in enumerate(records, 1):
        home = here / "out" / f"round-{number}"
        rows, config = rows_in(home / "samples"), yaml.safe_load((home / "train.yaml").read_text())
        assert record["rows"] == len(rows)
        assert config["train_dataset"] == [{"path": f"out/round-{number}/samples/rows.jsonl"}]
        assert config["model"] == "student"
        assert {row["sampled"]["weights"] for row in rows} == {weights_identity(record["writer"])}
        assert record["steps"] == 4
    assert weights_identity("out/round-1/model") != weights_identity("out/round-2/model")
    seeds = [{row["sampled"]["seed"] for row in rows_in(here / f"out/round-{n}/samples")} for n in (1, 2)]
    assert not seeds[0] & seeds[1]
    assert 'note: the trust of "target-sft" reads how likely' in said.out
    assert said.out.count("note:") == 1
    assert "round 2 of 2: done" in said.out
    assert "| 2 | 20 | 60 |" in (here / "out/table.md").read_text()


def test_rounds_from_last_go_on_with_the_last_student(here, capsys):
    assert trained(capsys, "--rounds-from", "last").code == 0
    configs = [yaml.safe_load((here / f"out/round-{n}/train.yaml").read_text()) for n in (1, 2)]
    assert [config["model"] for config in configs] == ["student", "out/round-1/model"]


def test_a_round_writes_its_own_cache_where_the_run_has_one(here, capsys):
    write_config(here, teacher_cache="cache", teacher_top_k=8)
    said = trained(capsys)
    assert said.code == 0, said.err
    for number in (1, 2):
        home = here / "out" / f"round-{number}"
        assert (home / "teacher-cache-1" / "manifest.json").is_file()
        assert (home / "log.txt").read_text().count("$ teacher cache") == 1
        assert (
            yaml.safe_load((home / "train.yaml").read_text())["teacher_cache"]
            == f"{home.relative_to(here)}/teacher-cache-1"
        )
    assert not (here / "cache").exists()


def test_rounds_may_train_on_the_rows_beside_the_samples_and_have_columns(here, capsys):
    rows = [{"asked": row["prompt"], "said": row["completion"], "answer": row["answer"]} for row in lab_rows()]
    write_rows(here / "own.jsonl", rows)
    columns = {"prompt": "asked", "completion": "said"}
    write_config(here, train_dataset="own.jsonl", eval_dataset="own.jsonl", columns=columns, method="sft", eta=None,
                 teacher=None, sample={"with_rows": True, "keep": "best"})  # fmt: skip
    said = trained(capsys)
    assert said.code == 0, said.err
    sets = yaml.safe_load((here / "out/round-1/train.yaml").read_text())["train_dataset"]
    assert sets == [{"path": "own.jsonl", "columns": columns}, {"path": "out/round-1/samples/rows.jsonl"}]
    assert json.loads((here / "out/rounds.json").read_text())["rounds"][1]["evaluation"]["nll"] > 0


def test_more_rounds_go_on_behind_those_that_are_done(here, capsys):
    assert command(capsys, "train", "config.yaml", "--rounds", "1").code == 0
    first = (here / "out/round-1/model/model.safetensors").read_bytes()
    assert trained(capsys).code == 0
    assert (here / "out/round-1/model/model.safetensors").read_bytes() == first
    log = (here / "out/round-1/log.txt").read_text()
    assert log.count("$ train") == 1
    assert (here / "out/round-2/model/model.safetensors").is_file()


def is_of_the_result(*paths) -> bool:
    return Path(paths[-1]).parent.name == "model"


STAGES = {
    "first samples": Signalling(store.Appender, "append", 7, signal.SIGKILL),
    "samples of the second round": Signalling(store.Appender, "append", 70, signal.SIGKILL),
    "rows": Signalling(os, "replace", 0, signal.SIGKILL, where=lambda *p: Path(p[-1]).name == "rows.jsonl"),
    "cache": Signalling(os, "replace", 0, signal.SIGKILL, where=lambda *p: "cache-1" in str(p[-1])),
    "checkpoint": Signalling(os, "replace", 1, signal.SIGKILL, where=lambda *p: "checkpoint-2" in str(p[-1])),
    "result": Signalling(os, "replace", 1, signal.SIGKILL, where=is_of_the_result),
    "second training": Signalling(os, "replace", 0, signal.SIGKILL, where=lambda *p: "round-2/model" in str(p[-1])),
    "outcome": Signalling(os, "replace", 1, signal.SIGKILL, where=lambda *p: Path(p[-1]).name == "rounds.json"),
}  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_rounds_that_were_killed_at_each_stage_end_in_the_same_bits(here, capsys):
    write_config(here, teacher_cache="cache", teacher_top_k=8)
    assert trained(capsys, out="whole").code == 0
    whole = state(here / "whole")
    for number, (stage, at) in enumerate(STAGES.items()):
        out = f"gone{number}"
        place = here / f"said-{number}"
        place.mkdir()
        killed = ended(("train", "config.yaml", *ROUNDS, "--output-dir", out), at, folder=place)
        assert killed.code == -signal.SIGKILL, (stage, killed.err)
        said = trained(capsys, out=out)
        assert said.code == 0, (stage, said.err)
        differs = [name for name, content in state(here / out).items() if content != whole[name]]
        assert differs == [], stage


@pytest.mark.skipif(os.name != "posix", reason="kills processes")
def test_a_killed_run_leaves_its_command_to_the_orphan_and_then_goes_on(here):
    """With real processes: the rounds are killed while their training runs on."""
    write_config(here, rounds=1)
    gate = Gate(here / "gates")
    words = [sys.executable, "-m", "qtarget", "train", "config.yaml", "--output-dir", "real"]
    rounds = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=gate.environment)
    with gate.reached(rounds) as orphan:
        rounds.kill()
        rounds.wait()
        assert orphan.is_running()
        again = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")
        said = next((line for line in again.stdout if "waiting for its end" in line), None)
    rest, _ = again.communicate()
    assert again.returncode == 0, rest
    assert said is not None, rest
    assert (here / "real/round-1/log.txt").read_text().count("$ qtarget train") == 1
    assert (here / "real/round-1/model/model.safetensors").is_file()


def test_a_round_in_which_nothing_is_kept_says_so(here, capsys):
    write_rows(here / "rows.jsonl", [{**row, "answer": "eleven"} for row in lab_rows(4)])
    write_config(here, sample={"answer": "answer"})
    said = trained(capsys)
    assert said.code == 1
    assert "round 1: " in said.err
    assert (here / "out/round-1/log.txt").is_file()
    assert not (here / "out/round-1/model").exists()


def test_the_same_folder_takes_no_other_rounds(here, capsys):
    assert command(capsys, "train", "config.yaml", "--rounds", "1").code == 0
    other = trained(capsys, "--learning-rate", "1e-2")
    assert other.code == 2
    assert "which differ in `configuration.learning_rate`" in other.err
    plain = command(capsys, "train", "config.yaml", "--output-dir", "single")
    assert plain.code == 0, plain.err
    single = trained(capsys, out="single")
    assert single.code == 2
    assert "holds an earlier run" in single.err


def with_another_last(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:-1], lines[-1].replace('"prompt": "', '"prompt": "so ')]))


def with_other_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, folder / "model.safetensors", {"format": "pt"})


CHANGED = {
    "rows.jsonl": (with_another_last, "training_rows"),
    "prompts.jsonl": (with_another_last, "prompts"),
    "held_out.jsonl": (with_another_last, "evaluation_rows"),
    "template.jinja": (lambda path: path.write_text("{{ messages }}!"), "chat_template"),
    "student": (with_other_weights, "models.student"),
    "teacher": (with_other_weights, "models.teacher"),
}
"""What is changed under its own name, how, and what the error calls it."""


def test_what_changed_under_its_name_is_not_mixed_into_later_rounds(here, capsys):
    for name in ("student", "teacher"):
        source = (here / name).resolve()
        (here / name).unlink()
        shutil.copytree(source, here / name)
    write_rows(here / "prompts.jsonl", [{"prompt": row["prompt"], "answer": row["answer"]} for row in lab_rows(6)])
    write_rows(here / "held_out.jsonl", lab_rows(4))
    (here / "template.jinja").write_text("{{ messages }}")
    write_config(here, eval_dataset="held_out.jsonl", chat_template_path="template.jinja", max_steps=1,
                 sample={"prompts": "prompts.jsonl", "with_rows": True})  # fmt: skip
    first = command(capsys, "train", "config.yaml", "--rounds", "1")
    assert first.code == 0, first.err
    for name, (change, what) in CHANGED.items():
        path, kept = here / name, here / "kept"
        copy, remove = (shutil.copytree, shutil.rmtree) if path.is_dir() else (shutil.copy, Path.unlink)
        copy(path, kept)
        change(path)
        said = trained(capsys)
        assert said.code == 2, (name, said)
        assert f"differ in `{what}`" in said.err, said.err
        assert "write `output_dir: out-2` (or --output-dir out-2)" in said.err
        assert not (here / "out/round-2").exists()
        remove(path)
        kept.rename(path)
    same = command(capsys, "train", "config.yaml", "--rounds", "1")
    assert same.code == 0, same.err


def test_questions_of_a_task_that_changed_are_not_mixed_into_later_rounds(here):
    rows = [{"question": row["prompt"], "answer": row["answer"]} for row in lab_rows(4)]
    write_rows(here / "asked.jsonl", rows)
    task = {"name": "asked", "rows": "asked.jsonl", "grader": {"name": "regex", "pattern": r"answer\s+(\S+)"}}
    (here / "asked.yaml").write_text(yaml.safe_dump(task))
    write_config(here, prompt_format="plain", sample={"task": "asked.yaml", "grade": None})
    job = read_job(RunArguments(Path("config.yaml"), {"rounds": ["2"]}))
    before = plan_of_rounds(job)
    write_rows(here / "asked.jsonl", [*rows[:3], {**rows[3], "answer": "eleven"}])
    assert first_difference(before, plan_of_rounds(job)) == "questions"
    assert "training_rows" not in before


REFUSED = {
    "none": (("--rounds", "0"), "`rounds: 0` is out of range; expected 1 or more"),
    "from": (("--rounds-from", "middle"), "is not accepted: it is 'base' or 'last'. For example `rounds_from: base`"),
    "near": (("--rounds-from", "lasst"), "it is 'base' or 'last'. Did you mean `rounds_from: last`?"),
    "words": (("--rounds", "two"), "`rounds: 'two'` is not accepted: it is a whole number. For example `rounds: 2`"),
    "streaming": (("--streaming",), "`streaming` does not go with `rounds`"),
    "resume": (("--resume-from-checkpoint",), "the same command goes on where rounds were stopped"),
    "push": (("--push-to-hub",), "push the last one when it is there"),
    "writer": (("--sample", "{model: teacher}"), "the student of each round writes its own samples"),
    "cache": (("--teacher-cache", "c", "--teacher", "null"), "write `teacher: path/or/hub-name` beside it"),
    "teacher": (("--teacher", "null"), "needs a teacher"),
    "answer": (("--sample", "{grade: number, answer: no}"), "`sample: {answer: no}`: no row has that column"),
    "launch": (("--rounds-launch", "no-such-launcher -n 2"), "there is no command no-such-launcher"),
    "adapter": (("--use-peft", "--rounds-from", "last"), "no adapter is put on an adapter"),
    "no rounds": (("--rounds", "null", "--rounds-from", "last"), "add `rounds: 2`, or remove it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_the_first_round(here, capsys, case):
    words, said = REFUSED[case]
    first = () if "--rounds" in words else ROUNDS
    refused = command(capsys, "train", "config.yaml", *first, *words)
    assert refused.code == 2, refused
    assert said in refused.err
    assert not (here / "out").exists()


def test_several_processes_are_not_started_by_hand(here, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    job = read_job(RunArguments(Path("config.yaml"), {"rounds": ["2"]}))
    with pytest.raises(ValueError, match="rounds_launch: accelerate launch"):
        check_rounds_can_run(job)


def test_validate_estimate_and_search_know_rounds(here, capsys):
    said = command(capsys, "validate", "config.yaml", *ROUNDS, "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["rounds"].startswith("2 × (draw 3 samples of each prompt, keep right, train the model")
    assert "rounds" not in json.loads(command(capsys, "validate", "config.yaml", "--json").out)["rounds"]
    shown = command(capsys, "estimate", "config.yaml", *ROUNDS, "--no-pilot")
    assert shown.code == 0, shown.err
    assert "2 trainings; drawing samples is not counted" in shown.out
    searched = command(capsys, "search", "config.yaml", *ROUNDS, "--out", "race")
    assert searched.code == 2
    assert "`rounds` makes several of each" in searched.err
