"""What a teacher cache costs, on one CPU thread: a training step from it, writing it, reading it, its size on disk.

Student and teacher have the shape of Qwen2.5-0.5B (24 layers of 896, 151936 tokens) and random weights, in fp32.
"""

import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from datasets import Dataset
from timing import in_turn, medians, processor, ratio
from transformers import PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

import qtarget as qt
from qtarget import lab
from qtarget.models.identity import tokenizer_identity
from qtarget.study.fine_tuning import ON_A_QUIET_CPU
from qtarget.teacher import Document, Keep, KeptSource, LiveModel, documents_of_rows, frozen, kept_logprobs
from qtarget.teacher.cache import CacheOrigin, open_cache, plan_cache, write_cache
from qtarget.teacher.cache.contents import tokens_in
from qtarget.teacher.distributions import KeptLogprobs
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

K = 64
TOKENIZER = lab.world("weak-operator")
"""Whose tokenizer the trainer is given; rows come as token ids, so nothing is read of it."""


@dataclass(frozen=True)
class Sizes:
    """The model, the batches of `rows` × `length` tokens, and the documents of `length_read` that are read."""

    name: str = "Qwen2.5-0.5B's shape, random weights"
    layers: int = 24
    hidden: int = 896
    heads: int = 14
    kv_heads: int = 2
    feed_forward: int = 4864
    vocab: int = 151936
    rows: int = 4
    length: int = 64
    rows_written: int = 8
    length_read: int = 256
    documents_read: int = 64
    rounds: int = 5


QUICK = Sizes("tiny", 1, 64, 2, 1, 128, 512, rows=2, length=16, rows_written=4, documents_read=4, rounds=1)


def model_of(sizes: Sizes) -> PreTrainedModel:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=sizes.vocab,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        intermediate_size=sizes.feed_forward,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config)


def rows_of(sizes: Sizes, rows: int, length: int) -> Dataset:
    """Rows of random tokens, all of them supervised."""
    ids = torch.randint(64, sizes.vocab, (rows, length), generator=torch.Generator().manual_seed(rows)).tolist()
    return Dataset.from_list([{"input_ids": row, "labels": row} for row in ids])


def cached(
    folder: Path, sizes: Sizes, rows: Dataset, answer: Callable[[Sequence[Document]], KeptLogprobs], per: int
) -> Path:
    """A cache of rows, in shards of about `per` tokens."""
    origin = CacheOrigin(
        tokenizer_identity(lab.tokenizer(TOKENIZER)), "none", "none", "random weights", "torch.float32", sizes.vocab
    )
    plan = plan_cache(documents_of_rows(rows.with_format("numpy")), origin, Keep(K), shard_tokens=per)
    write_cache(folder, plan, answer)
    return folder


def invented(vocab: int, documents: Sequence[Document]) -> KeptLogprobs:
    """What some teacher might have said; the label comes last."""
    tokens = tokens_in(documents)
    others = torch.randint(64, vocab - K, (tokens, 1), generator=torch.Generator().manual_seed(0)) + torch.arange(K)
    labels = torch.cat([torch.from_numpy(document.targets) for document in documents])
    others[:, :-1] += (others[:, :-1] >= labels[:, None]).long()  # leaves the label out
    others[:, -1] = labels
    logprobs = (-1.0 - torch.arange(K).log1p()).repeat(tokens, 1)
    flat = torch.ones(tokens)
    return KeptLogprobs(others.int(), logprobs, -3 * flat, logprobs[0, -1] * flat, flat)


def step_cost(sizes: Sizes, folder: Path) -> dict:
    """Batch made, forward, loss and backward of target-sft from a cache, over those of sft; no optimizer step."""
    model, rows = model_of(sizes), rows_of(sizes, sizes.rows, sizes.length)
    cache = cached(folder / "step", sizes, rows, partial(invented, sizes.vocab), 10**6)
    trainers = {
        "sft": _trainer(model, rows, folder, method="sft"),
        "target-sft from a cache": _trainer(model, rows, folder, method="target-sft", teacher_cache=str(cache)),
    }
    steps = {name: partial(_step, trainer) for name, trainer in trainers.items()}
    times = in_turn(steps, sizes.rounds)
    return {"tokens": sizes.rows * sizes.length, **medians(times), "ratio": ratio(times, *reversed(trainers), "cpu")}


def _trainer(model: PreTrainedModel, rows: Dataset, folder: Path, **settings: Any) -> TargetSFTTrainer:
    args = TargetSFTConfig(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=len(rows),
        logging_steps=10**6,
        **ON_A_QUIET_CPU,
        **settings,
    )
    return TargetSFTTrainer(model, args, train_dataset=rows, processing_class=lab.tokenizer(TOKENIZER))


def _step(trainer: TargetSFTTrainer) -> None:
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))])
    trainer.model.zero_grad()
    trainer.training_step(trainer.model, batch)


def writing_cost(sizes: Sizes, folder: Path) -> dict:
    """A cache written, over the logits of the same batch from the bare model."""
    rows = rows_of(sizes, sizes.rows_written, sizes.length)
    live = LiveModel(frozen(model_of(sizes), torch.device("cpu")))
    ids, runs = torch.tensor(rows["input_ids"]), iter(range(10**6))

    @torch.no_grad()
    def bare() -> None:
        live.model(input_ids=ids, use_cache=False).logits  # noqa: B018

    def write() -> None:
        answer = partial(kept_logprobs, live, keep=Keep(K), batch_tokens=ids.numel())
        cached(folder / f"written {next(runs)}", sizes, rows, lambda documents: answer(documents), ids.numel())

    times = in_turn({"bare forward": bare, "writing": write}, sizes.rounds)
    throughput = {clock: ratio(times, "bare forward", "writing", clock) for clock in ("cpu", "wall")}
    return {"tokens": ids.numel(), **medians(times), "throughput": throughput}


def reading_cost(sizes: Sizes, folder: Path) -> dict:
    """Milliseconds to read a document from a cache: again, for the first time, and from disk."""
    rows = rows_of(sizes, sizes.documents_read, sizes.length_read + 1)
    documents = list(documents_of_rows(rows.with_format("numpy")))
    for document in documents:
        document.digest  # noqa: B018  (named when the batch is made)
    path = cached(folder / "read", sizes, rows, partial(invented, sizes.vocab), 1 << 14)
    first = _first_reads(path, documents)
    cold = _first_reads(path, documents, before=_let_go)
    cache = open_cache(path)
    warm = [_ms(lambda one=one: cache.answer([one])) for _ in range(20) for one in documents][len(documents) :]
    batch = _batch(rows)
    source = KeptSource(cache)
    laid_out = [_ms(lambda: source.read(batch)) for _ in range(50)][5:]
    return {
        "tokens": sizes.length_read,
        "warm_ms": statistics.median(warm),
        "first_ms": statistics.median(first),
        "cold_ms": statistics.median(cold),
        "collated_ms": statistics.median(laid_out),
        "bytes_per_token": cache.manifest.bytes / cache.manifest.tokens,
    }


def _batch(rows: Dataset) -> dict[str, torch.Tensor]:
    ids = torch.tensor(rows[0]["input_ids"])[None]
    return {"input_ids": ids, "labels": ids}


def _first_reads(
    path: Path, documents: Sequence[Document], before: Callable[[Path], None] = lambda path: None
) -> list[float]:
    """Milliseconds of the first reading of each document after a cache was opened, which hashes its files."""
    cache = open_cache(path)
    before(path)
    return [_ms(lambda one=one: cache.answer([one])) for one in documents]


def _let_go(folder: Path) -> None:
    """Ask the system to forget what it holds of the files in memory."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _ms(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def run(sizes: Sizes) -> dict:
    """All costs, with the machine and how busy it was."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {"machine": machine(), "model": asdict(sizes), "kept": K, "load_before": os.getloadavg()[0]}
    for name, measure in {"step": step_cost, "writing": writing_cost, "reading": reading_cost}.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(sizes, Path(folder))
        gc.collect()
    return {**found, "load_after": os.getloadavg()[0]}


def machine() -> dict[str, Any]:
    names = {"torch": torch.__version__, "transformers": transformers.__version__, "qtarget": qt.__version__}
    return {"processor": processor(), **names, "threads": 1}


class Line(NamedTuple):
    """A cost beside its target. `limit`: "at most" or "at least"."""

    what: str
    found: float
    limit: str
    target: float
    unit: str

    @property
    def is_met(self) -> bool:
        return self.found <= self.target if self.limit == "at most" else self.found >= self.target

    @property
    def margin(self) -> float:
        """How far on the right side of the target, as a share of it; negative where it was missed."""
        gap = self.found / self.target - 1
        return -gap if self.limit == "at most" else gap


def lines(costs: dict) -> list[Line]:
    """The four costs that have targets."""
    writing, reading = costs["writing"]["throughput"]["cpu"]["median"], costs["reading"]
    return [
        Line("training step from a cache over one of sft", costs["step"]["ratio"]["median"], "at most", 1.10, "x"),
        Line("throughput of writing over the bare forward's", writing, "at least", 0.9, "x"),
        Line(f"reading {reading['tokens']} tokens", reading["warm_ms"], "at most", 0.1, " ms"),
        Line("on disk, a token", reading["bytes_per_token"], "at most", 400.0, " bytes"),
    ]
