"""Bytes a token of a teacher cache against what they lose, on the text of a real model, for each layout.

    python benchmarks/cache_layouts.py STUDENT TEACHER --rows gsm8k.jsonl --prose PAGE.md... [--record]

Student and teacher are folders or hub names of one tokenizer, computed in bf16. Two texts: solutions of questions
(JSON lines of `question` and `answer`), which a teacher foresees well, and prose, which it does not. Every layout is
written as a cache of its own and read back; its errors are those of `teacher_quality`, against the dense teacher, in
float32. Reading is timed on one thread, in turn with the least that the machine needs for it: the same bytes copied,
or decompressed where they are packed.
"""

import argparse
import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import teacher_cost
import torch
from teacher_quality import TARGETS, Error, Tokens, aim, error
from timing import in_turn, medians
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import qtarget as qt
from qtarget.disk.files import write_json
from qtarget.teacher import Document, Keep, number_of_tokens
from qtarget.teacher.cache import ByMass, Cache, CacheOrigin, open_cache, plan_cache, write_cache
from qtarget.teacher.cache.format import PER_TOKEN
from qtarget.teacher.cache.ragged import PackedColumns
from qtarget.teacher.cache.reader import map_shard
from qtarget.teacher.distributions import KeptLogprobs, logprobs_of_logits

RESULT = Path(__file__).parent / "results" / "cache_layouts.json"
AIMS = ("target-sft η=0.2", "target-sft η=0.5", "kd")
CHUNK = 16
PROSE_TOKENS = 256


@dataclass(frozen=True)
class CacheLayout:
    """How a cache keeps tokens: as many everywhere, or by their mass. `name`: as a table says it."""

    name: str
    k: int
    by_mass: ByMass | None = None


LAYOUTS = (
    *(CacheLayout(f"K = {k}", k) for k in (8, 16, 32, 64, 128)),
    *(CacheLayout(f"K = {k}, packed", k, ByMass(0.5, k, k)) for k in (16, 64)),
    *(CacheLayout(f"ε = {e:g}", 256, ByMass(e)) for e in (0.1, 0.05, 0.02, 0.01, 0.003, 0.001)),
    *(CacheLayout(f"ε = 0.01, at most {k}", k, ByMass(0.01, 1, k)) for k in (64, 128)),
)


class Sizes(NamedTuple):
    """How much text: documents of solutions and of prose, and tokens of each of which errors are measured."""

    solutions: int = 10
    pages: int = 3
    tokens: int = 192
    rounds: int = 30


class Text(NamedTuple):
    """Some documents, and both models' logits at their learned tokens, `[T, V]`, in the documents' order."""

    documents: list[Document]
    student_TV: Tensor
    teacher_TV: Tensor

    @property
    def labels_T(self) -> Tensor:
        return torch.from_numpy(np.concatenate([each.targets for each in self.documents])).long()


def solutions(path: Path, tokenizer: object, count: int) -> list[Document]:
    """Questions in the chat template, and their answers, which are learned."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines()[:count]:
        row = json.loads(line)
        words, _, number = re.sub(r"<<.*?>>", "", row["answer"]).partition("####")
        answer = f"{words.strip()} The final answer is $\\boxed{{{number.strip()}}}$."
        asked = tokenizer.apply_chat_template(  # type: ignore[attr-defined]
            [{"role": "user", "content": row["question"]}], add_generation_prompt=True, tokenize=False
        )
        prompt, completion = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (asked, answer))  # type: ignore[operator]
        found.append(Document.of(prompt + completion, [-100] * len(prompt) + completion))
    return found


def prose(paths: Sequence[Path], tokenizer: object, count: int) -> list[Document]:
    """Stretches of plain text, every token learned but the first."""
    text = "\n".join(re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL) for path in paths)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
    length = PROSE_TOKENS + 1
    return [Document.of(ids[i * length : (i + 1) * length], ids[i * length : (i + 1) * length]) for i in range(count)]


@torch.no_grad()
def logits_of(source: str, documents: Sequence[Document], vocabulary: int) -> Tensor:
    """Of all learned tokens, `[T, V]` float32, from hidden states in bf16."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16).eval()
    head_VH = model.get_output_embeddings().weight[:vocabulary]
    parts = []
    for each in documents:
        hidden = model.base_model(input_ids=torch.from_numpy(each.ids.astype(np.int64))[None]).last_hidden_state[0]
        parts.append(hidden[:-1][torch.from_numpy(each.asked[1:])])
    del model  # the layers' memory, before the logits take as much
    return torch.cat(parts).float() @ head_VH.float().T


def written(folder: Path, text: Text, layout: CacheLayout) -> Cache:
    """A cache of a text in a layout, in shards of the usual size."""
    bounds = np.cumsum([0, *(int(each.asked.sum()) for each in text.documents)])
    rows = {each.digest: slice(a, b) for each, a, b in zip(text.documents, bounds, bounds[1:], strict=False)}

    def answer(documents: Sequence[Document]) -> KeptLogprobs:
        where = torch.cat([torch.arange(len(text.teacher_TV))[rows[each.digest]] for each in documents])
        parts = [
            logprobs_of_logits(
                text.teacher_TV[i].clone(), torch.empty(len(i), vocabulary), text.labels_T[i], keep, None
            )
            for i in where.split(64)
        ]
        return KeptLogprobs(*(torch.cat(column) for column in zip(*parts, strict=True)))

    vocabulary = text.teacher_TV.shape[1]
    origin = CacheOrigin("tokens", "template", "none", "weights", "bfloat16", vocabulary)
    plan = plan_cache(text.documents, origin, Keep(layout.k), by_mass=layout.by_mass)
    keep = plan.keep
    write_cache(folder, plan, answer)
    return open_cache(folder)


def sparse_of(kept: KeptLogprobs, rows: Tensor) -> qt.Sparse:
    """Evidence about some of the tokens."""
    numbers = (each[rows].float() for each in (kept.logprobs, kept.log_tail, kept.entropy))
    return qt.Sparse(kept.ids[rows].long(), *numbers)


def measured(text: Text, caches: dict[CacheLayout, Cache], tokens: int) -> list[dict]:
    """What each layout takes and loses."""
    answers = {layout: cache.answer(text.documents) for layout, cache in caches.items()}
    errors = errors_of(text, answers, tokens)
    return [
        {
            "layout": layout.name,
            "k": layout.k,
            "by_mass": None if layout.by_mass is None else asdict(layout.by_mass),
            "bytes_per_token": cache.manifest.bytes / cache.manifest.tokens,
            "kept": float((answers[layout].ids >= 0).sum(1).float().mean()),
            "left_out": float(answers[layout].log_tail.float().exp().mean()),
            "errors": errors[layout],
        }
        for layout, cache in caches.items()
    ]


def errors_of(text: Text, answers: dict[CacheLayout, KeptLogprobs], tokens: int) -> dict[CacheLayout, dict]:
    """Errors of Q and of the gradient, at so many tokens spread over the text."""
    number = len(text.labels_T)
    places = torch.arange(0, number, max(number // tokens, 1))[:tokens]
    found: dict[tuple, list[Error]] = {}
    for rows in places.split(CHUNK):
        some = Tokens(text.student_TV[rows], text.teacher_TV[rows], text.labels_T[rows], 0.0)
        for name in AIMS:
            method = TARGETS[name][0]
            exact = aim(some, method, some.teacher_TV)
            for layout, kept in answers.items():
                found.setdefault((layout, name), []).append(error(aim(some, method, sparse_of(kept, rows)), exact))
    return {layout: {name: summary(found[layout, name]) for name in AIMS} for layout in answers}


def summary(parts: list[Error]) -> dict[str, float]:
    variation, off, norm = (torch.cat(column) for column in zip(*parts, strict=True))
    return {"variation": variation.mean().item(), "gradient": (off.norm() / norm.norm()).item()}


def reading(text: Text, caches: dict[CacheLayout, Cache], rounds: int) -> list[dict]:
    """Milliseconds to read what was kept of 256 tokens, document by document, and the least that they could be."""
    steps: dict[str, Callable[[], None]] = {}
    for layout, cache in caches.items():
        steps |= {layout.name: partial(_read_all, cache, text.documents), f"least, {layout.name}": least(cache)}
    times = medians(in_turn(steps, rounds))
    scale = 1000 * PROSE_TOKENS / len(text.labels_T)
    return [
        {
            "layout": layout.name,
            "ms": scale * times[layout.name]["wall"],
            "cpu_ms": scale * times[layout.name]["cpu"],
            "least_ms": scale * times[f"least, {layout.name}"]["wall"],
        }
        for layout in caches
    ]


def _read_all(cache: Cache, documents: Sequence[Document]) -> None:
    for each in documents:
        cache.answer([each])


def least(cache: Cache) -> Callable[[], None]:
    """What no reader does without: the bytes of each document copied, or decompressed where they are packed."""
    index, parts = cache.index, cache.manifest.parts
    mapped = [map_shard(cache.folder / shard.file) for shard in cache.manifest.shards]
    if cache.by_mass is None:
        tokens = zip(index.shards, index.starts, index.starts + index.counts, strict=True)
        return partial(_copy, [mapped[i][name].numpy()[a:b] for i, a, b in tokens for name in PER_TOKEN])
    columns, codec, packed = PackedColumns.of(parts), pa.Codec("zstd"), []
    for i, count, begin, end in zip(index.shards, index.counts, index.begins, index.ends, strict=True):
        content = mapped[i]["packed"].numpy()[begin:end]
        kept = int.from_bytes(content[:4].tobytes(), "little")
        packed.append((content[4:], int(count) * columns.token_bytes + kept * columns.kept_bytes))
    return partial(_decompress, codec, packed)


def _copy(columns: Sequence[np.ndarray]) -> None:
    for each in columns:
        each.copy()


def _decompress(codec: pa.Codec, packed: Sequence[tuple[np.ndarray, int]]) -> None:
    for content, size in packed:
        codec.decompress(content, size)


def of_text(text: Text, sizes: Sizes, folder: Path) -> dict:
    """Everything about one text."""
    caches = {layout: written(folder / str(i), text, layout) for i, layout in enumerate(LAYOUTS)}
    logp_TV = text.teacher_TV.log_softmax(-1)
    return {
        "documents": len(text.documents),
        "tokens": len(text.labels_T),
        "measured": min(sizes.tokens, len(text.labels_T)),
        "entropy": -(logp_TV.exp() * logp_TV).sum(-1).mean().item(),
        "layouts": measured(text, caches, sizes.tokens),
        "reading": reading(text, caches, sizes.rounds),
    }


def run(given: argparse.Namespace, sizes: Sizes) -> dict:
    tokenizer = AutoTokenizer.from_pretrained(given.teacher)
    vocabulary = number_of_tokens(tokenizer.get_vocab())
    documents = {
        "solutions": solutions(given.rows, tokenizer, sizes.solutions),
        "prose": prose(given.prose, tokenizer, sizes.pages),
    }
    found = {}
    for name, of_name in documents.items():
        with tempfile.TemporaryDirectory() as folder:
            student, teacher = (logits_of(source, of_name, vocabulary) for source in (given.student, given.teacher))
            found[name] = of_text(Text(of_name, student, teacher), sizes, Path(folder))
    return {
        "models": {"student": given.student_name, "teacher": given.teacher_name, "vocabulary": vocabulary},
        "files": {"solutions": given.rows.name, "prose": [path.name for path in given.prose]},
        "texts": found,
        "machine": {**teacher_cost.machine(), "load": os.getloadavg()[0]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("student")
    parser.add_argument("teacher")
    parser.add_argument("--student-name", default="the student", help="as the page names it")
    parser.add_argument("--teacher-name", default="the teacher", help="as the page names it")
    parser.add_argument("--rows", type=Path, required=True, help="JSON lines of question and answer")
    parser.add_argument("--prose", type=Path, nargs="+", required=True, help="pages of plain text")
    parser.add_argument("--record", action="store_true", help=f"write {RESULT.name}")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = run(given, Sizes())
    for name, text in found["texts"].items():
        print(f"{name}: {text['tokens']} tokens, entropy {text['entropy']:.2f}")
        for row, read in zip(text["layouts"], text["reading"], strict=True):
            errors = "  ".join(f"{e['variation']:.4f} {e['gradient']:.4f}" for e in row["errors"].values())
            print(
                f"{row['layout']:24}{row['kept']:7.1f}{row['bytes_per_token']:8.1f}{row['left_out']:9.4f}  {errors}"
                f"  {read['ms']:.3f} ms, least {read['least_ms']:.3f}"
            )
    if given.record:
        write_json(RESULT, found)


if __name__ == "__main__":
    main()
