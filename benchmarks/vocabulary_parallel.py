"""What `vocabulary_parallel` saves and costs: memory and time of a step on two CPU ranks, with it and without.

    python benchmarks/vocabulary_parallel.py [--rounds 3] [--json benchmarks/results/vocabulary_parallel.json]

Each round launches two gloo ranks with whole copies of one model, once each way, so that the two are measured side by
side; with weights in bf16 and in float32. Memory is by how much a rank's resident set rises above where it stood before
training; the steps of a rank are timed from the second on. One thread a rank. The optimizer is SGD, which keeps nothing
beside the weights: under AdamW, in float32, its step takes more than the loss and hides what is saved there.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from timing import growth_mib, processor, spread, versions
from transformers import TrainerCallback
from whole_step import TOKENIZER, Model, model_of, quiet, rows_of

from qtarget import lab
from qtarget.disk.files import write_json
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

RANKS = 2
SIZES = Model(layers=1, hidden=256, feed_forward=256, vocab=151936, tied=True, rows=2, length=128, rounds=6)
WAYS = {"whole": False, "cut over ranks": True}
DTYPES = ("bfloat16", "float32")


class Steps(TrainerCallback):
    """Seconds of each optimizer step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def trained(is_cut: bool, dtype: str, sizes: Model, folder: Path) -> dict[str, Any]:
    """One rank's training."""
    quiet()
    clock = Steps()
    trainer = TargetSFTTrainer(
        model_of(sizes).to(getattr(torch, dtype)),
        TargetSFTConfig(
            output_dir=str(folder), per_device_train_batch_size=sizes.rows, max_steps=sizes.rounds, method="sft",
            optim="sgd",
            vocabulary_parallel=is_cut, ddp_backend="gloo", use_cpu=True, bf16=False, report_to="none",
            save_strategy="no", disable_tqdm=True, gradient_checkpointing=False, logging_steps=1,
            dataloader_pin_memory=False,
        ),
        train_dataset=rows_of(replace(sizes, rows=sizes.rows * RANKS * sizes.rounds)),
        processing_class=lab.tokenizer(lab.world(TOKENIZER)),
        callbacks=[clock],
    )  # fmt: skip
    mib = growth_mib(trainer.train)
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    return {"mib": mib, "seconds": clock.seconds[1:], "losses": losses}


def launched(is_cut: bool, dtype: str, sizes: Model) -> dict[str, Any]:
    """All ranks' figures: the largest growth, and the median step of the slower rank."""
    with tempfile.TemporaryDirectory() as folder:
        asked = json.dumps({"is_cut": is_cut, "dtype": dtype, "sizes": asdict(sizes), "folder": folder})
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(RANKS), __file__, "--rank"]
        single = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        done = subprocess.run(
            [*command, asked], capture_output=True, text=True, encoding="utf-8", env={**os.environ, **single}
        )
        if done.returncode:
            raise RuntimeError(f"the launch failed:\n{done.stderr[-2000:]}")
        ranks = [json.loads((Path(folder) / f"rank-{rank}.json").read_text(encoding="utf-8")) for rank in range(RANKS)]
    return {
        "mib": max(rank["mib"] for rank in ranks),
        "seconds": max(statistics.median(rank["seconds"]) for rank in ranks),
        "losses": ranks[0]["losses"],
    }


def measured(dtype: str, sizes: Model, rounds: int) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, is_cut in WAYS.items():
            found[way].append(launched(is_cut, dtype, sizes))
    whole, cut = found.values()
    apart = max(abs(a - b) for a, b in zip(whole[0]["losses"], cut[0]["losses"], strict=True))
    return {
        "mib": {way: max(each["mib"] for each in of) for way, of in found.items()},
        "seconds": {way: statistics.median(each["seconds"] for each in of) for way, of in found.items()},
        "seconds cut over whole": spread([b["seconds"] / a["seconds"] for a, b in zip(whole, cut, strict=True)]),
        "most that a loss differs": apart,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        asked = json.loads(options.rank)
        row = trained(asked["is_cut"], asked["dtype"], Model(**asked["sizes"]), Path(asked["folder"]) / "run")
        write_json(Path(asked["folder"]) / f"rank-{os.environ['RANK']}.json", row)
        return
    layer = 4 * SIZES.vocab * SIZES.hidden / 2**20
    print(f"two ranks, V = {SIZES.vocab:,}, H = {SIZES.hidden}: the output layer's gradient in fp32 is {layer:.0f} MiB")
    found = {}
    for dtype in DTYPES:
        row = found[dtype] = measured(dtype, SIZES, options.rounds)
        tell(dtype, row)
    if options.json:
        about = {"processor": processor(), "load": os.getloadavg()[0], **versions("torch", "transformers", "trl")}
        write_json(options.json, {"about": about, "sizes": asdict(SIZES), "dtypes": found})


def tell(dtype: str, row: dict[str, Any]) -> None:
    print(f"weights in {dtype}")
    for way in WAYS:
        print(f"  {way:16} {row['mib'][way]:8.0f} MiB above the start, {row['seconds'][way]:6.2f} s a step")
    times = row["seconds cut over whole"]
    print(
        f"  cut over whole   {times['median']:.2f} times the seconds ({times['least']:.2f} to {times['largest']:.2f})"
    )
    print(f"  losses differ by at most {row['most that a loss differs']:.1e}", flush=True)


if __name__ == "__main__":
    main()
