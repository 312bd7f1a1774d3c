"""The files of examples/scale: accelerate and we ourselves read them, and they train on two CPU ranks as on one."""

import importlib.util
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from safetensors.torch import load_file
from torch.distributed.launcher.api import LaunchConfig

from qtarget import lab
from qtarget.data.user_files.yaml_file import read_yaml
from qtarget.disk.seal import read_seal
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import check_job
from qtarget.job.config.user_input import user_input
from qtarget.job.cost.run_time import DISK_SPEED
from qtarget.recipes.recipe_files import shapes
from qtarget.teacher.cache import verify_cache

ROOT = Path(__file__).parents[2]
SCALE, TESTS = ROOT / "examples" / "scale", ROOT / "tests"
LAUNCHES = {"fsdp2": ("use_fsdp", {}), "zero2": ("use_deepspeed", {}), "zero3": ("use_deepspeed", {})}
RUNS = ("laptop", "one-gpu", "eight-gpus")
has_deepspeed = importlib.util.find_spec("deepspeed") is not None
needs_deepspeed = pytest.mark.skipif(not has_deepspeed, reason="needs deepspeed")


def test_every_file_is_tried():
    tried = {f"{name}.yaml" for name in (*LAUNCHES, *RUNS)}
    tried |= {"cache.sbatch", "cache-array.sbatch", "train.sbatch", "cache.sky.yaml"}
    assert {path.name for path in SCALE.iterdir()} == tried


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, (kind, _) in LAUNCHES.items()])
def test_accelerate_takes_its_files(name: str, kind: str):
    words = ["--config_file", str(SCALE / f"{name}.yaml"), "-m", "qtarget", "train", "config.yaml"]
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert {each: bool(getattr(args, each)) for each in ("use_fsdp", "use_deepspeed")} == {
        each: each == kind for each in ("use_fsdp", "use_deepspeed")
    }
    assert (args.num_processes, args.mixed_precision) == (8, "bf16")
    if kind == "use_fsdp":
        assert (args.fsdp_version, args.fsdp_auto_wrap_policy) == (2, "TRANSFORMER_BASED_WRAP")
    else:
        assert str(args.zero_stage) == name.removeprefix("zero")


@pytest.mark.parametrize("name", RUNS)
def test_we_take_ours(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1+1=", "completion": "2"}\n', encoding="utf-8")
    job = check_job(user_input(read_yaml(SCALE / f"{name}.yaml"), RunArguments(None, {})))
    assert job.method.name == "target-sft"


def test_a_checkpoint_has_time_between_the_signal_and_the_end(monkeypatch: pytest.MonkeyPatch):
    """Of the 8B student: weights and AdamW's moments in float32, at the speed at which checkpoints are hashed."""
    script = (SCALE / "train.sbatch").read_text("utf-8")
    ((signal,), (left,)) = re.findall(r"SIGTERM@(\d+)", script), re.findall(r"^export (\w+_TIMEOUT=\d+)", script, re.M)
    name, _, seconds = left.partition("=")
    monkeypatch.setenv(name, seconds)
    if hasattr(LaunchConfig, "shutdown_timeout"):  # an older torch keeps to 30
        assert LaunchConfig(1, 1, 1).shutdown_timeout == int(seconds)
    needed = 12 * shapes().shapes["llama-3.1-8b"].parameters / DISK_SPEED
    assert needed < int(seconds) < int(signal)


# ---- runs: the lab's models in the place of the named ones


class Ran(NamedTuple):
    """A finished run: its losses and gradient norms, its result, and how weights were kept in it."""

    steps: list[dict[str, float]]
    evaluations: list[float]
    weights: dict[str, torch.Tensor]
    kept: dict[str, Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lab's student and teacher, and rows."""
    folder, world = tmp_path_factory.mktemp("scale"), lab.world("weak-operator")
    (folder / "student").symlink_to(lab.student_path(world))
    (folder / "teacher").symlink_to(lab.teacher_path(world))
    rows = lab.demonstrations(world, seed=0)[:300]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def in_place(home: Path, out: str, accumulation: int) -> list[str]:
    """Words in the place of a file's models and rows; all in float32, and few steps."""
    return shlex.split(
        f"--model {home / 'student'} --teacher {home / 'teacher'} --train-dataset {home / 'rows.jsonl'} "
        f"--eval-dataset {home / 'rows.jsonl'} --eval-strategy steps --eval-steps 2 --output-dir {home / out} "
        f"--gradient-accumulation-steps {accumulation} --max-steps 3 --max-length 96 --logging-steps 1 --save-steps 2 "
        "--bf16 false --use-cpu --teacher-dtype float32 --report-to none --learning-rate 1e-2"
    )


def run(home: Path, launch: str | None, config: str, accumulation: int, *more: str) -> Ran:
    """Train under one of the launches on two ranks, or alone."""
    out = f"{config}-{launch}"
    report = home / f"{out}.json"
    command = [str(TESTS / "examples" / "scaled_run.py"), str(report), "train", str(SCALE / f"{config}.yaml")]
    if launch is not None:
        options = f"--num_processes 2 --mixed_precision no --main_process_port {free_port()}"
        command = ["-m", "accelerate.commands.launch", "--config_file", str(SCALE / f"{launch}.yaml")] + (
            options.split() + command
        )
    started(home, [*command, *in_place(home, out, accumulation), *more])
    last = json.loads((home / out / "checkpoint-3" / "trainer_state.json").read_text("utf-8"))["log_history"]
    steps = [{key: each[key] for key in ("loss", "grad_norm")} for each in last if "grad_norm" in each]
    evaluations = [each["eval_nll"] for each in last if "eval_nll" in each]
    return Ran(steps, evaluations, load_file(home / out / "model.safetensors"), json.loads(report.read_text("utf-8")))


def started(home: Path, words: list[str]) -> None:
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    bins = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PATH": bins}
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=home, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def alone(home: Path) -> Ran:
    return run(home, None, "eight-gpus", 8)


def check_same(found: Ran, alone: Ran) -> None:
    assert found.kept["ranks"] == 2
    assert len(found.steps) == len(alone.steps) == 3
    for ours, theirs in zip(found.steps, alone.steps, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    assert found.evaluations == pytest.approx(alone.evaluations, rel=1e-5)
    expected = {"lm_head.weight": alone.weights["model.embed_tokens.weight"], **alone.weights}  # tied; some write both
    assert alone.weights.keys() <= found.weights.keys() <= expected.keys()
    for name, weight in found.weights.items():  # AdamW moves by 1e-2 also where a gradient is little but rounding
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-4)


def test_fsdp2_of_accelerate_trains_as_one_process(home: Path, alone: Ran):
    found = run(home, "fsdp2", "eight-gpus", 4)
    assert found.kept["student"] == ["DTensor"]
    assert "DTensor" in found.kept["teacher 0"]
    check_same(found, alone)


@needs_deepspeed
@pytest.mark.parametrize(("stage", "kind"), [("zero2", "whole"), ("zero3", "ZeRO-3")])
def test_deepspeed_trains_as_one_process(home: Path, alone: Ran, stage: str, kind: str):
    found = run(home, stage, "eight-gpus", 4)
    assert (found.kept["student"], found.kept["teacher 0"]) == ([kind], [kind])
    check_same(found, alone)


def test_one_gpus_file_trains(home: Path):
    found = run(home, None, "one-gpu", 2)
    assert found.kept["student"] == found.kept["teacher 0"] == ["whole"]


def test_the_laptops_two_commands_run(home: Path):
    """The cache is written by the first and read by the second, in which no teacher is there."""
    cache = ["--teacher-cache", str(home / "laptop-cache")]
    words = [*in_place(home, "laptop-None", 2), *cache]
    started(home, ["-m", "qtarget", "teacher", "cache", str(SCALE / "laptop.yaml"), *words])
    found = run(home, None, "laptop", 2, *cache)
    assert set(found.kept) == {"ranks", "student"}
    assert found.steps[0]["loss"] > 0


# ---- clusters: the commands of the files, by bash


STANDING_IN = {
    "scontrol": "echo 127.0.0.1",
    "srun": """for task in $(seq 0 $((${SLURM_TASKS_HERE} - 1))); do
  SLURM_PROCID=$task SLURM_NODEID=$task "$@" & started="${started:-} $!"
done
for task in $started; do wait "$task" || exit 1; done""",
    "qtarget": f'exec "{sys.executable}" -m qtarget "$@"',
    "accelerate": f'exec "{sys.executable}" -m accelerate.commands.accelerate_cli "$@"',
}
"""Commands of a cluster, and those of an environment, by what they do here."""


def by_bash(home: Path, script: str, *words: str, **variables: str) -> None:
    """Run a script from the project's root with the stand-ins ahead of all other commands."""
    folder = home / "bin"
    folder.mkdir(exist_ok=True)
    for name, does in STANDING_IN.items():
        (folder / name).write_text(f"#!/bin/bash\n{does}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    environment = {**os.environ, **variables, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT / "src"))}
    command = ["bash", "-c", script, "script", *words]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


def with_free_port(text: str) -> str:
    assert "29500" in text
    return text.replace("29500", str(free_port()))


def check_cache(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text("utf-8"))
    assert len(plan["shards"]) > 2
    assert not verify_cache(folder).problems


def cache_words(home: Path, name: str) -> list[str]:
    words = ["--teacher-cache", str(home / name), "--cache-shard-tokens", "600", "--ddp-backend", "gloo"]
    return [*in_place(home, f"out-{name}", 1), *words]


def test_slurms_tasks_share_a_cache(home: Path):
    script = with_free_port((SCALE / "cache.sbatch").read_text("utf-8"))
    assert "#SBATCH --array=1-8%1" in script
    config = str(SCALE / "eight-gpus.yaml")
    tasks = {"SLURM_NTASKS": "2", "SLURM_TASKS_HERE": "2", "SLURM_JOB_NODELIST": "here"}
    by_bash(home, script, config, *cache_words(home, "by-slurm"), **tasks)
    check_cache(home / "by-slurm")


def test_the_jobs_of_slurms_array_write_a_part_each(home: Path):
    """Both at once, with nothing that tells one of the other."""
    script = (SCALE / "cache-array.sbatch").read_text("utf-8")
    assert "#SBATCH --array=1-8\n" in script
    assert "PARTS=${PARTS:-8}\n" in script
    words = [str(SCALE / "eight-gpus.yaml"), *cache_words(home, "by-array")]
    words = words[: words.index("--ddp-backend")]  # each is alone
    with ThreadPoolExecutor(2) as jobs:
        both = [jobs.submit(by_bash, home, script, *words, SLURM_ARRAY_TASK_ID=n, PARTS="2") for n in ("1", "2")]
        for job in both:
            job.result()
    check_cache(home / "by-array")


def test_skypilots_machine_writes_a_cache(home: Path):
    task = yaml.safe_load((SCALE / "cache.sky.yaml").read_text("utf-8"))
    assert {"name", "resources", "num_nodes", "workdir", "file_mounts", "envs", "setup", "run"} == set(task)
    config = read_yaml(SCALE / "eight-gpus.yaml").values
    own = home / "sky.yaml"
    words = cache_words(home, "by-sky")
    given = {words[i].removeprefix("--").replace("-", "_"): words[i + 1] for i in range(0, len(words) - 1)
             if words[i].startswith("--") and not words[i + 1].startswith("--")}  # fmt: skip
    given = {key: yaml.safe_load(value) for key, value in given.items()} | {"use_cpu": True, "learning_rate": 0.01}
    own.write_text(yaml.safe_dump({**config, **given}), encoding="utf-8")
    (home / "bucket").mkdir()
    envs = {"CONFIG": str(own), "CACHE": str(home / "by-sky"), "COPIES": "2", "BUCKET": str(home / "bucket")}
    assert set(envs) - {"BUCKET"} == set(task["envs"])
    by_bash(home, with_free_port(task["run"]), **envs)
    check_cache(home / "bucket" / "by-sky")


def test_slurms_machines_train_and_go_on(home: Path):
    """Two tasks of one CPU rank each, whole models: FSDP2 on CPUs needs our own start, which the file does not have."""
    script = with_free_port((SCALE / "train.sbatch").read_text("utf-8"))
    script = script.replace("--config_file examples/scale/fsdp2.yaml", "--multi_gpu --mixed_precision no")
    machines = {"SLURM_NNODES": "2", "SLURM_TASKS_HERE": "2", "SLURM_JOB_NODELIST": "here", "SLURM_GPUS_ON_NODE": "1"}
    config, words = str(SCALE / "eight-gpus.yaml"), [*in_place(home, "by-slurm-jobs", 4), "--ddp-backend", "gloo"]
    for job, steps in (("1", "3"), ("2", "5")):
        array = {"SLURM_ARRAY_TASK_ID": job, "SLURM_ARRAY_TASK_MIN": "1"}
        changed = ["--resume-changed", "max_steps"] if job == "2" else []
        words[words.index("--max-steps") + 1] = steps
        by_bash(home, script, config, *words, *changed, **machines, **array)
    state = json.loads((home / "by-slurm-jobs" / "checkpoint-5" / "trainer_state.json").read_text("utf-8"))
    assert state["global_step"] == 5
    assert read_seal(home / "by-slurm-jobs" / "checkpoint-5").facts["ranks"] == 2
