"""Pre-training of a world's student and teacher from a seed: about a minute each on two CPU cores."""

import itertools
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from qtarget.console import SafeConsole
from qtarget.disk.files import read_json_object, write_json
from qtarget.disk.held_folders import check_not_replaced
from qtarget.disk.one_writer import one_writer
from qtarget.disk.seal import SEAL, damage, read_seal, seal
from qtarget.lab.tokens import END, END_ID, PAD_ID, VOCABULARY_SIZE, make_tokenizer
from qtarget.lab.worlds import Demonstration, Model, World, pretraining_text

BATCH_SIZE = 128
PEAK_LEARNING_RATE = 4e-3
WARM_UP_STEPS = 30
RECORD = "build.json"
BUILT = "built"
"""Where a built model's manifest says the same as its record, bound to the weights."""


def build(world: World, seed: int, out_dir: Path, progress: Progress | None = None) -> None:
    """Pre-train the student and the teacher of a world into ``out_dir/student`` and ``out_dir/teacher``.

    The same world, seed, machine and number of threads give the same weights. A model that an earlier,
    interrupted build with the same settings already finished is kept. Progress is shown by rich; pass your
    own `rich.progress.Progress` to show it elsewhere.

    Raises:
        SecondWriterError: another process is writing to `out_dir`.
    """
    if progress is None:
        with Progress(console=SafeConsole(stderr=True)) as display:
            return build(world, seed, out_dir, display)
    with one_writer(out_dir):
        build_model(world.student, f"{world.name} student", seed, out_dir / "student", progress)
        build_model(world.teacher, f"{world.name} teacher", seed + 1, out_dir / "teacher", progress)


def build_model(model: Model, title: str, seed: int, folder: Path, progress: Progress) -> None:
    """Pre-train one model into `folder`, or keep what an earlier build with the same settings left there."""
    record = {"model": asdict(model), "seed": seed}
    task = progress.add_task(title, total=model.pretraining_steps)
    if _is_finished(folder, record):
        progress.update(task, completed=model.pretraining_steps)
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network, tokenizer = make_network(model), make_tokenizer()
        for loss in _pretrain(network, tokenizer, model, seed):
            progress.update(task, advance=1, description=f"{title}, loss {loss:.3f}")
    _save(network, tokenizer, record, folder)


def _is_finished(folder: Path, record: dict) -> bool:
    path = folder / RECORD  # written last, so its presence means the rest is complete
    if not path.exists() or read_json_object(path, "delete its folder") != json.loads(json.dumps(record)):
        return False
    return is_built_as(folder, record) and not ((folder / SEAL).is_file() and damage(folder, read_seal(folder)))


def is_built_as(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether the weights in a folder were built by this description; of builds of earlier versions nothing says so.

    Raises:
        ValueError: the folder's manifest is damaged.
    """
    built = read_seal(folder).facts.get(BUILT) if (folder / SEAL).is_file() else None
    return built is None or built == json.loads(json.dumps(record))


def make_network(model: Model) -> LlamaForCausalLM:
    """An untrained Llama of the model's size, with torch's global generator."""
    config = LlamaConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=model.width,
        intermediate_size=model.feed_forward,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        max_position_embeddings=128,
        initializer_range=0.5 / math.sqrt(model.width),
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        bos_token_id=None,
        eos_token_id=END_ID,
    )
    return LlamaForCausalLM(config)


def _pretrain(
    network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, model: Model, seed: int
) -> Iterator[float]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: _schedule(i, model.pretraining_steps))
    network.train()
    for rows in _curriculum(model, seed):
        loss = network(**_collate(rows, tokenizer)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        yield loss.item()


def _schedule(step: int, total: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a half cosine down to 2 %."""
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    done = (step - WARM_UP_STEPS) / max(1, total - WARM_UP_STEPS)
    return 0.02 + 0.49 * (1 + math.cos(math.pi * min(1.0, done)))


def _curriculum(model: Model, seed: int) -> Iterator[list[Demonstration]]:
    """School first, on short chains without slips; then the writer's own text."""
    careful = replace(model.writer, slips=0.0)
    phases = ((careful, 2, model.school_steps), (model.writer, 4, model.steps))
    for writer, longest, count in phases:
        stream = pretraining_text(writer, seed, 1, longest)
        for _ in range(count):
            yield list(itertools.islice(stream, BATCH_SIZE))


def _collate(rows: list[Demonstration], tokenizer: PreTrainedTokenizerFast) -> dict[str, torch.Tensor]:
    """Padded rows, with labels from the prompt's ``?`` on: the numbers before it are random and teach nothing."""
    texts = [row["prompt"] + row["completion"] + END for row in rows]
    batch = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    is_before_BS = batch["input_ids"].eq(tokenizer.convert_tokens_to_ids("?")).cumsum(-1).eq(0)
    learned_BS = batch["attention_mask"].bool() & ~is_before_BS
    return {**batch, "labels": batch["input_ids"].where(learned_BS, -100)}


def _save(network: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, record: dict, folder: Path) -> None:
    """Store the weights in half precision and mark the folder finished."""
    check_not_replaced(folder)
    shutil.rmtree(folder, ignore_errors=True)
    network.eval().half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = read_json_object(folder / "config.json", "pre-train anew")
    config["dtype"] = "float32"  # what `from_pretrained` loads by default: fine-tuning wants full precision
    write_json(folder / "config.json", config, indent=2)
    seal(folder, {"kind": "lab model", BUILT: record}, [RECORD])
    write_json(folder / RECORD, record, indent=2)
