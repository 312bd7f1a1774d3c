"""An hour of training, caching and serving side by side: memory and file handles must stay flat.

    python benchmarks/soak.py [--minutes 60] [--record]

Three processes run the product's own commands over the lab's models. A teacher is served (`qtarget teacher serve`); a
training asks it at every step, saves a sealed checkpoint every 200 and keeps the newest two (`qtarget train`); and one
process writes a teacher cache, verifies and deletes it, again and again. Every few seconds the resident memory, the
open files and the threads of each are noted. The first quarter is warm-up. A process is flat where the median of the
last quarter lies at most 5 % above that of the second quarter in memory, and at most 2 above it in files and threads.
Needs Linux's or macOS's handles of files; exits non-zero where a process is not flat, or ended.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from timing import processor

from qtarget.disk.files import replace_text, write_json

RESULT = Path(__file__).parent / "results" / "soak.json"
WORLD = "strong-prior"
MEMORY, COUNT = 0.05, 2
"""How far memory (a part) and files or threads (a number) may rise between the second quarter and the last."""
EVERY_S = 5.0
QTARGET = [sys.executable, "-c", "from qtarget.cli.main import main; main()"]
CONFIG = {
    "train_dataset": "rows.jsonl",
    "method": "target-sft",
    "eta": 0.5,
    "learning_rate": 1e-5,
    "per_device_train_batch_size": 8,
    "gradient_checkpointing": False,
    "bf16": False,
    "disable_tqdm": True,
    "report_to": "none",
}


class Reading(NamedTuple):
    """What a process holds at a moment: MiB of resident memory, open files, threads."""

    minute: float
    memory: float
    files: int
    threads: int


def write_job(folder: Path, name: str, **more: object) -> None:
    """A configuration; JSON is YAML."""
    replace_text(folder / name, json.dumps({**CONFIG, **more}))


def write_rows(folder: Path, model: Path) -> None:
    from qtarget import lab

    rows = [json.dumps(dict(row)) for row in lab.demonstrations(lab.world(WORLD), seed=0)]
    replace_text(folder / "rows.jsonl", "\n".join(rows) + "\n")
    write_job(folder, "cache.yaml", model=str(model), output_dir="unused", teacher_cache="cache", max_steps=1)


def cache_for_ever(folder: Path, teacher: str) -> None:
    """Write a cache, verify it, delete it, and so on; a line for each."""
    from qtarget.job.config.flags import RunArguments
    from qtarget.job.config.read_job import read_job
    from qtarget.job.teacher_cache import prepare_caches, write_caches
    from qtarget.teacher.cache import verify_cache

    os.chdir(folder)
    while True:
        write_caches(prepare_caches(read_job(RunArguments(Path("cache.yaml"), {"teacher": [teacher]}))))
        assert not verify_cache(Path("cache")).problems
        shutil.rmtree("cache")
        print("cached", flush=True)


@contextlib.contextmanager
def started(command: list[str], log: Path) -> Iterator[psutil.Popen]:
    """A process whose output goes to a file, ended at the end."""
    with log.open("wb") as out:
        process = psutil.Popen(command, cwd=log.parent, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def address(log: Path, served: psutil.Popen) -> str:
    """What a server prints as its address, waited for."""
    while True:
        assert served.poll() is None, log.read_text(encoding="utf-8")
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith("address"):
                return line.split()[1]
        time.sleep(0.2)


def soak(folder: Path, minutes: float) -> tuple[dict[str, list[Reading]], dict[str, int]]:
    """Readings of each process, and how much work was done."""
    from qtarget import lab

    student, teacher = lab.student_path(lab.world(WORLD)), lab.teacher_path(lab.world(WORLD))
    write_rows(folder, student)
    logs = {name: folder / f"{name}.log" for name in ("serving", "training", "caching")}
    with contextlib.ExitStack() as stack:
        serve = [*QTARGET, "teacher", "serve", str(teacher), "--port", "0"]
        running = {"serving": stack.enter_context(started(serve, logs["serving"]))}
        url = address(logs["serving"], running["serving"])
        often = {"max_steps": 100_000_000, "logging_steps": 50, "save_steps": 200, "save_total_limit": 2}
        write_job(folder, "train.yaml", model=str(student), teacher=url, output_dir="out", **often)
        train = [*QTARGET, "train", "train.yaml"]
        running["training"] = stack.enter_context(started(train, logs["training"]))
        cache = [sys.executable, __file__, "--caching", str(folder), str(teacher)]
        running["caching"] = stack.enter_context(started(cache, logs["caching"]))
        readings = watch(running, logs, minutes)
    return readings, {"steps trained": last_step(folder / "out"), "caches written": caches(logs["caching"])}


def watch(running: dict[str, psutil.Popen], logs: dict[str, Path], minutes: float) -> dict[str, list[Reading]]:
    readings: dict[str, list[Reading]] = {name: [] for name in running}
    start = time.monotonic()
    while (now := (time.monotonic() - start) / 60) < minutes:
        for name, process in running.items():
            if process.poll() is not None:
                raise SystemExit(f"{name} ended after {now:.0f} min:\n{logs[name].read_text(encoding='utf-8')[-3000:]}")
            memory = process.memory_info().rss / 2**20
            readings[name].append(Reading(now, memory, process.num_fds(), process.num_threads()))
        time.sleep(EVERY_S)
    return readings


def last_step(out: Path) -> int:
    return max((int(path.name.rpartition("-")[2]) for path in out.glob("checkpoint-*")), default=0)


def caches(log: Path) -> int:
    return log.read_text(encoding="utf-8").splitlines().count("cached")


def quarter(readings: list[Reading], number: int) -> list[float]:
    """Medians of memory, files and threads over a quarter, numbered from 0."""
    length = len(readings) // 4
    part = readings[number * length : (number + 1) * length]
    return [statistics.median(column) for column in list(zip(*part, strict=True))[1:]]


def is_flat(before: list[float], after: list[float]) -> bool:
    return after[0] <= before[0] * (1 + MEMORY) and all(
        late <= early + COUNT for early, late in zip(before[1:], after[1:], strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--record", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--caching", nargs=2, metavar=("FOLDER", "TEACHER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.caching:
        return cache_for_ever(Path(asked.caching[0]), asked.caching[1])
    with tempfile.TemporaryDirectory() as folder:
        readings, done = soak(Path(folder), asked.minutes)
    found = {
        name: {"second quarter": quarter(all_, 1), "last quarter": quarter(all_, 3)} for name, all_ in readings.items()
    }
    flat = {name: is_flat(*quarters.values()) for name, quarters in found.items()}
    show(found, flat, done, asked.minutes)
    if asked.record:
        columns = ["MiB", "files", "threads"]
        limits = {"memory": MEMORY, "files and threads": COUNT}
        facts = {"machine": processor(), "minutes": asked.minutes, "columns": columns, "limits": limits}
        write_json(RESULT, {**facts, "done": done, "flat": flat, **found})
    raise SystemExit(not all(flat.values()))


def show(found: dict[str, dict[str, list[float]]], flat: dict[str, bool], done: dict[str, int], minutes: float) -> None:
    table = Table(box=SIMPLE_HEAD, title=f"{minutes:g} minutes: second quarter → last quarter", title_justify="left")
    for column in ("process", "MiB", "files", "threads", "flat"):
        table.add_column(column, no_wrap=True)
    for name, (before, after) in ((name, quarters.values()) for name, quarters in found.items()):
        cells = [f"{early:,.0f} → {late:,.0f}" for early, late in zip(before, after, strict=True)]
        table.add_row(name, *cells, "yes" if flat[name] else "no")
    console = Console()
    console.print(table)
    console.print(f"memory may rise by {MEMORY:.0%}, files and threads by {COUNT}")
    console.print(", ".join(f"{count:,} {what}" for what, count in done.items()))


if __name__ == "__main__":
    main()
