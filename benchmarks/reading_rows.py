"""What a run does before its first step with a large file of JSON lines, beside `datasets` and TRL alone.

    python benchmarks/reading_rows.py [--rows 100000] [--tokens 200] [--record]

Each side runs in a process of its own, from an empty cache: `datasets` loads the file and `trl.SFTTrainer` tokenises
it; `qtarget train` reads, checks, tokenises, counts and fingerprints it. Seconds of the clock and of the CPU, and the
peak of resident memory, which files that are mapped into memory are part of. The rows are cut from the lab's
demonstrations; the model is the lab's student, whose tokenizer is a fast one, so reading weighs the more.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from timing import processor

from qtarget.disk.files import write_json

RESULT = Path(__file__).parent / "results" / "reading_rows.json"
TARGET = 1.2
TOKENS = 200
"""Of a row's completion, about, where nothing else is asked for."""
LONGEST = 400
"""Tokens at which rows are cut."""
SIDES = {"datasets and TRL": "peer", "qtarget": "ours", "qtarget, read before": "again"}


def write_rows(path: Path, rows: int, tokens: int) -> None:
    """Rows of a prompt and a completion of about so many tokens, no two alike."""
    from qtarget import lab

    made = lab.demonstrations(lab.world("weak-operator"), seed=0)
    texts = [row["prompt"] + row["completion"] for row in made]
    each = max(1, tokens // max(1, len(texts[0].split())))
    with path.open("w", encoding="utf-8") as file:
        for index in range(rows):
            parts = [texts[(index * 7 + step * 13 + index // len(texts)) % len(texts)] for step in range(each)]
            prompt = made[index % len(made)]["prompt"]
            file.write(json.dumps({"prompt": prompt, "completion": " ".join(parts), "id": str(index)}) + "\n")


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "run"),
        "max_length": LONGEST,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
        "max_steps": 1,
    }


def peer(file: Path, folder: Path) -> int:
    """`datasets` loads, TRL tokenises."""
    from datasets import load_dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from qtarget import lab

    rows: Any = load_dataset("json", data_files=str(file), split="train")
    student = str(lab.student_path(lab.world("weak-operator")))
    args = SFTConfig(**settings(folder), loss_type="nll")
    trainer: Any = SFTTrainer(model=student, args=args, train_dataset=rows)
    return len(trainer.train_dataset)


def ours(file: Path, folder: Path) -> int:
    """All that `qtarget train` does before the first step."""
    from qtarget import lab
    from qtarget.job.config.flags import RunArguments
    from qtarget.job.config.read_job import read_job
    from qtarget.job.training import prepare_training

    keys = {
        **settings(folder),
        "model": str(lab.student_path(lab.world("weak-operator"))),
        "method": "sft",
        "train_dataset": str(file),
    }
    flags = {key: [str(value).lower() if isinstance(value, bool) else str(value)] for key, value in keys.items()}
    trainer: Any = prepare_training(read_job(RunArguments(None, flags)))
    return len(trainer.train_dataset)


def measure(side: str, file: Path, folder: Path) -> dict[str, Any]:
    """Time and memory of this process from here to the trainer, imports not counted."""
    import datasets
    import trl.trainer.sft_trainer  # noqa: F401

    import qtarget.job.training  # noqa: F401

    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    datasets.disable_progress_bars()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    rows = peer(file, folder) if side == "peer" else ours(file, folder)
    return {
        "rows": rows,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_mib_before": before / 1024,
    }


def run(rows: int, tokens: int) -> dict[str, Any]:
    """Both sides, one after the other, and ours once more over what it kept."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "rows.jsonl"
        write_rows(file, rows, tokens)
        for title, side in SIDES.items():
            folder = Path(name) / ("peer" if side == "peer" else "ours")
            folder.mkdir(exist_ok=True)
            command = [sys.executable, __file__, "--side", side, "--file", str(file), "--folder", str(folder)]
            found[title] = json.loads(subprocess.check_output(command, text=True, encoding="utf-8").splitlines()[-1])
        size = file.stat().st_size
    cpu = {title: found[title]["cpu_seconds"] for title in found}
    return {
        "rows": rows,
        "tokens_of_a_completion": tokens,
        "bytes": size,
        "target": TARGET,
        "ratio_seconds": found["qtarget"]["seconds"] / found["datasets and TRL"]["seconds"],
        "ratio_cpu": cpu["qtarget"] / cpu["datasets and TRL"],
        **found,
        "machine": machine(),
    }


def machine() -> dict[str, str]:
    import datasets
    import transformers
    import trl

    return {
        "processor": processor(),
        "datasets": datasets.__version__,
        "trl": trl.__version__,
        "transformers": transformers.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a completion, about")
    parser.add_argument("--record", action="store_true", help=f"write {RESULT.name}")
    for hidden in ("--side", "--file", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        return print(json.dumps(measure(given.side, Path(given.file), Path(given.folder))))
    found = run(given.rows, given.tokens)
    if given.record:
        write_json(RESULT, found)
    for title in SIDES:
        side = found[title]
        time_text = f"{side['seconds']:8.1f} s  {side['cpu_seconds']:8.1f} s of CPU"
        print(f"{title:24}{time_text}  {side['peak_mib']:7.0f} MiB at most")
    print(f"{'ratio':24}{found['ratio_seconds']:8.2f}    {found['ratio_cpu']:8.2f}            target {TARGET}")


if __name__ == "__main__":
    main()
