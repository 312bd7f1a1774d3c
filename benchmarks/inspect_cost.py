"""What `qtarget inspect` adds to the forward passes of student and teacher, in processor seconds of one thread.

    OMP_NUM_THREADS=1 python benchmarks/inspect_cost.py                  # rows of 1,024 tokens, 24 layers
    OMP_NUM_THREADS=1 python benchmarks/inspect_cost.py --length 256

Both models have Qwen2.5-0.5B's shape, V = 151,936. Their weights are random, the output layer such that logits spread
by 4, so that entropies are a language model's and not those of an even draw; what they say is without meaning.
They share their weights to save memory, all but the last norm, which weighs the teacher's features otherwise: its
logits correlate with the student's at 0.9. What they agree on matters a little: KL(Q‖p) is computed where Q is proper.

*Bare* is both models' own forward, which makes the logits of every position. *Inspection* is `measure`, the pass of
the command, over the same rows with every token but the first learned: hidden states, output layers, and the measures
of every method that a live teacher allows. Both are taken in turn, and the ratio is of a round; inspection contains the
bare passes' work, so what it adds is that ratio less one. Nothing is saved by
learning fewer tokens here; in a run only learned tokens cost the measures.
"""

import argparse
import json
import platform
import tempfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from timing import in_turn, processor, ratio, versions
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM
from whole_step import TOKENIZER, Model, quiet, rows_of

from qtarget import lab
from qtarget.disk.files import write_digested_json
from qtarget.job.inspection.measured_rows import measure
from qtarget.job.inspection.row_forward import ForwardReader
from qtarget.job.inspection.trained_rows import TrainedRows
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

KEPT = Path(__file__).parent / "results" / "inspect_cost.json"
LIMIT = 1.3
"""Times the bare forward passes that inspection may add to them."""
TEACHER_APART = 0.5
"""Standard deviation of the weights of the teacher's last norm, around 1."""
LOGIT_SPREAD, VOCABULARY, HIDDEN = 4.0, 151_936, 896


def shape(layers: int) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=4864,
        num_hidden_layers=layers,
        num_attention_heads=14,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        use_cache=False,
    )


def student_of(layers: int) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(shape(layers)).eval()
    nn.init.normal_(model.lm_head.weight, std=LOGIT_SPREAD / HIDDEN**0.5)
    return model


def teacher_of(student: Qwen2ForCausalLM) -> Qwen2ForCausalLM:
    """A model of the student's weights but for its last norm, which weighs every feature a little otherwise."""
    with torch.device("meta"):
        teacher = Qwen2ForCausalLM(student.config).eval()
    inner, own = teacher.model, student.model
    inner.embed_tokens, inner.layers, inner.rotary_emb = own.embed_tokens, own.layers, own.rotary_emb
    inner.norm, teacher.lm_head = deepcopy(own.norm), student.lm_head
    nn.init.normal_(inner.norm.weight, mean=1.0, std=TEACHER_APART)
    return teacher


def trainer_of(layers: int, rows: int, length: int, folder: str) -> TargetSFTTrainer:
    """A trainer of Target-SFT that was built and has not trained."""
    student = student_of(layers)
    config = TargetSFTConfig(
        method="target-sft", output_dir=folder, max_length=length, use_cpu=True, bf16=False, report_to="none"
    )
    return TargetSFTTrainer(
        student,
        config,
        train_dataset=rows_of(Model(vocab=VOCABULARY, rows=rows, length=length)),
        processing_class=lab.tokenizer(lab.world(TOKENIZER)),
        teacher=teacher_of(student),
    )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=1)
    asked.add_argument("--length", type=int, default=1024)
    asked.add_argument("--layers", type=int, default=24)
    asked.add_argument("--rounds", type=int, default=1)
    asked.add_argument("--out", type=Path, default=KEPT)
    given = asked.parse_args()
    quiet()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(given.layers, given.rows, given.length, folder)
        rows, reader = list(TrainedRows(trainer.train_dataset)), ForwardReader(trainer)
        models = (trainer.model, trainer.teachers[0].model)  # pyright: ignore[reportAttributeAccessIssue]

        @torch.no_grad()
        def bare() -> None:
            for row in rows:
                for model in models:
                    model.eval()(torch.as_tensor(row.ids)[None], use_cache=False)

        found = measure(reader, rows[:1], trainer.method, 1)
        times = in_turn({"bare": bare, "inspection": lambda: measure(reader, rows, trainer.method, 1)}, given.rounds)
    times_bare = ratio(times, "inspection", "bare")
    said = {
        "machine": processor(),
        "python": platform.python_version(),
        "versions": versions("torch", "transformers", "qtarget"),
        "rows": given.rows,
        "length": given.length,
        "layers": given.layers,
        "learned_tokens": sum(len(row.learned) for row in rows),
        "methods": len(found.open.methods),
        "mean_entropy": float(np.mean(found.rows[0].numbers["entropy"])),
        "mean_overlap": float(np.mean(found.rows[0].numbers["teacher 0 overlap"])),
        "cpu_seconds": {name: each["cpu"] for name, each in times.items()},
        "times_bare": times_bare,
        "limit": LIMIT,
        "limit_met": times_bare["median"] - 1 <= LIMIT,
    }
    write_digested_json(given.out, said)
    print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
