"""`qtarget estimate`: memory by part, hours, disk. benchmarks/run_cost.py lays its memory beside a real run's."""

import json
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from job.command import run as command
from job.directories import model_directory, write_rows
from rich.cells import cell_len
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import read_job
from qtarget.job.cost.batch_shape import BatchShape
from qtarget.job.cost.cache_cost import CountedRows, cache_costs
from qtarget.job.cost.disk_use import disk_use, saves_of
from qtarget.job.cost.live_bytes import ACTIVATIONS, LiveBytes
from qtarget.job.cost.loss_buffers import loss_bytes
from qtarget.job.cost.run_memory import run_memory
from qtarget.job.cost.run_time import steps_of

MIB = 2**20


def job_with(here, **keys):
    flags = {key: [json.dumps(value) if not isinstance(value, str) else value] for key, value in keys.items()}
    return read_job(RunArguments(here / "config.yaml", flags))


def test_live_bytes_are_those_of_tensors_that_live():
    with LiveBytes() as tracker:
        first = torch.ones(1000)
        second = first + 1
        del first
        third = second * 2
        view = third[:10]
        del third
    assert tracker.live[ACTIVATIONS] == 4000 + 4000  # a view keeps what it is of
    assert tracker.peak.total() == 8000
    del second, view
    assert tracker.live.total() == 0


def test_memory_of_a_step_is_counted_by_part(here):
    job = job_with(here, method="sft", teacher="null", eta="null", gradient_accumulation_steps=2)
    shape = BatchShape(2, 16, 32.0, True)
    memory, student = run_memory(job, shape, "cpu", 100)
    weights = 4 * student.parameters
    assert (memory.weights, memory.gradients, memory.optimizer) == (
        pytest.approx(weights, rel=0.01),
        weights,
        2 * weights,
    )
    assert memory.teacher == memory.reference == 0
    assert memory.step == 100 + sum(size for name, size in memory.parts().items() if name != "libraries")
    wider, _ = run_memory(job, BatchShape(8, 16, 128.0, True), "cpu", 100)
    assert memory.activations + memory.loss < wider.activations + wider.loss < 8 * (memory.activations + memory.loss)


def test_an_adapter_trains_little_and_a_teacher_weighs(here):
    shape = BatchShape(2, 16, 32.0, True)
    twice = {"gradient_accumulation_steps": 2}  # so that gradients are there in the forward pass
    whole, _ = run_memory(job_with(here, **twice), shape, "cpu", 0)
    words = {"use_peft": True, "lora_target_modules": "all-linear", **twice}
    adapter, student = run_memory(job_with(here, **words), shape, "cpu", 0)
    assert student.trained < student.parameters / 2
    assert (adapter.gradients, adapter.optimizer) == (4 * student.trained, 8 * student.trained)
    assert adapter.gradients < whole.gradients
    assert min(whole.teacher, adapter.teacher) > 4 * 320 * 32


def test_references_weigh_where_one_is_kept(here):
    shape = BatchShape(2, 16, 32.0, True)
    words = {"teacher": "null", "eta": "null"}
    kept, student = run_memory(job_with(here, method="sft-kl", **words), shape, "cpu", 0)
    assert kept.reference == kept.weights
    assert run_memory(job_with(here, method="sft-kl", use_peft=True, **words), shape, "cpu", 0)[0].reference == 0
    assert run_memory(job_with(here, method="psft", **words), shape, "cpu", 0)[0].reference == student.trained_bytes


def test_checkpointing_saves_activations_and_methods_differ_in_loss(here):
    shape = BatchShape(4, 64, 256.0, True)
    whole, _ = run_memory(job_with(here), shape, "cpu", 0)
    saving, _ = run_memory(job_with(here, gradient_checkpointing=True), shape, "cpu", 0)
    assert saving.activations < whole.activations
    sft = loss_bytes(job_with(here, method="sft", teacher="null", eta="null"), shape, "cpu")
    assert 0 < sft < loss_bytes(job_with(here), shape, "cpu")


def test_buffers_of_the_loss_are_told_apart_from_activations(here):
    job, shape = job_with(here, method="sft", teacher="null", eta="null"), BatchShape(4, 64, 256.0, True)
    memory, student = run_memory(job, shape, "cpu", 0)
    assert memory.loss == student.loss == loss_bytes(job, shape, "cpu")


def test_a_gpus_kernels_hold_the_logits_once_for_the_student_and_for_each_source(here):
    pytest.importorskip("triton")
    shape, alone = BatchShape(4, 64, 256.0, True), {"teacher": "null", "eta": "null"}
    config = json.loads((here / job_with(here).model / "config.json").read_text(encoding="utf-8"))
    logits, head = (2 * config["vocab_size"] * numbers for numbers in (256, config["hidden_size"]))
    one = loss_bytes(job_with(here, method="sft", bf16=True, **alone), shape, "cuda")
    assert one == logits + head  # the output layer is kept in float32, and multiplied in bf16
    assert loss_bytes(job_with(here, bf16=True), shape, "cuda") == 2 * logits + head
    assert loss_bytes(job_with(here, method="sft", bf16=True, dtype="bfloat16", **alone), shape, "cuda") == logits
    assert loss_bytes(job_with(here, method="sft", **alone), shape, "cuda") == 2 * logits  # float32
    job = job_with(here, method="confidence-penalty", bf16=True, **alone)
    assert loss_bytes(job, shape, "cuda") > 4 * logits  # which is for torch's operations


@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_families_are_rehearsed(here, family):
    model_directory(here / f"a-{family}", family)
    memory, student = run_memory(
        job_with(here, model=f"a-{family}", method="sft", teacher="null", eta="null", gradient_accumulation_steps=2),
        BatchShape(2, 16, 32.0, True),
        "cpu",
        0,
    )
    assert memory.gradients == 4 * student.parameters


def test_steps_and_saves_are_those_of_the_trainer(here):
    from qtarget.job.training import prepare_training

    for keys in ({"max_steps": 4}, {"max_steps": -1, "num_train_epochs": 2, "gradient_accumulation_steps": 3}):
        job = job_with(here, **keys)
        trainer = prepare_training(job)
        steps = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1]
        assert steps_of(job, 16) == steps
    assert saves_of(job_with(here), 4) == 2
    assert saves_of(job_with(here, save_steps="0.25"), 100) == 4
    assert saves_of(job_with(here, save_strategy="no"), 100) == 0


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ({"teacher": "self", "ema": 0.9}, "teacher_average.safetensors"),
        ({"teacher": "self", "ema": 0.9, "use_peft": True, "dtype": "bfloat16"}, "teacher_average.safetensors"),
        ({"method": "psft", "teacher": "null", "eta": "null"}, "reference_snapshot.safetensors"),
    ],
)
def test_a_checkpoint_holds_what_the_run_keeps_of_its_student(here, tmp_path, keys, name):
    from qtarget.job.training import prepare_training

    job = job_with(here, **keys)
    memory, student = run_memory(job, BatchShape(2, 16, 32.0, True), "cpu", 0)
    rows = Dataset.from_dict({"labels": [[-100, 1]]})
    whole, weights_alone = (
        disk_use(each, memory, student, 4, rows).checkpoint
        for each in (job, job_with(here, save_only_model=True, **keys))
    )
    trainer = prepare_training(job)
    kept = trainer.reference if name.startswith("reference") else trainer.teachers[0]
    kept.save(tmp_path, writes=True)
    held = sum(tensor.nbytes for tensor in load_file(tmp_path / name).values())
    assert whole - weights_alone - memory.optimizer == held > 0


def test_without_a_pilot_no_weight_is_read(here, capsys, monkeypatch):
    from qtarget.job.cost import run_cost

    monkeypatch.setattr(run_cost, "run_pilot", lambda *_: pytest.fail("a pilot was run"))
    monkeypatch.setenv("COLUMNS", "80")
    before = {path.name for path in here.iterdir()}
    said = command(capsys, "estimate", "config.yaml", "--no-pilot", "--task", "math-500")
    assert said.code == 0, said.err
    assert max(map(cell_len, said.out.splitlines())) <= 80
    shown = " ".join(said.out.split())
    for part in ("weights", "gradients", "optimizer", "activations", "teacher", "4 steps", "a pilot tells more"):
        assert part in shown
    assert {path.name for path in here.iterdir()} == before
    found = json.loads(command(capsys, "estimate", "config.yaml", "--no-pilot", "--json").out)
    assert found["memory"]["total"] >= found["memory"]["step"] > found["memory"]["weights"] > 0
    assert found["disk"]["cache"] > 0
    assert found["pilot"] is None
    (cache,) = found["caches"]
    dry = ("teacher", "cache", "config.yaml", "--teacher-cache", "cache", "--dry-run", "--json")
    (same,) = json.loads(command(capsys, *dry).out)
    assert cache == {name: same[name] for name in cache}
    assert found["disk"]["cache"] == cache["bytes"]
    costs_less = "break-even runs of students from which on a cache costs less than a live teacher"
    assert f"{costs_less} teacher 0 {cache['pays_from']} runs" in shown


def test_operations_are_those_of_the_models_that_compute(here, capsys, monkeypatch):
    """A teacher's by its own size, and none where a cache or a server answers in its place."""
    from qtarget.job.cost import run_cost

    monkeypatch.setattr(run_cost, "product_speed", lambda *_: 2.0)  # one operation a second is reached

    def seconds(*words: str) -> float:
        said = command(capsys, "estimate", "config.yaml", "--no-pilot", "--json", *words)
        assert said.code == 0, said.err
        return json.loads(said.out)["time"]["training"]

    def weights(name: str) -> int:
        return sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(here / name).parameters())

    model_directory(here / "wide", "qwen2", seed=2, width=64)
    student, alone = weights("qwen2"), seconds("--method", "sft", "--eta", "null", "--teacher", "null")
    tokens = alone / (6 * student)
    for name in ("teacher", "wide"):
        assert seconds("--teacher", name) == pytest.approx(alone + 2 * tokens * weights(name))
    assert seconds("--teacher-cache", "cache") == seconds("--teacher", "vllm+http://127.0.0.1:9") == alone
    compared = ("--method", "sft-kl", "--kl-weight", "0.5", "--eta", "null", "--teacher", "null")
    assert seconds(*compared) == pytest.approx(alone + 2 * tokens * student)


def test_a_pilot_is_timed_and_said_to_be_one(here, capsys):
    said = command(capsys, "estimate", "config.yaml", "--task", "math-500", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["pilot"]["train_seconds"] > 0
    assert found["time"]["basis"].startswith("a pilot of 3 steps")
    assert found["time"]["total"] > 0
    (task,) = found["tasks"]
    assert (task["task"], task["answers"]) == ("math-500", 8000)
    assert task["seconds"] == pytest.approx(8000 * task["tokens"] / found["pilot"]["generation"])
    assert not (here / "out").exists()


def test_a_pilot_tells_the_teachers_hours_where_it_is_there(here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def found(*words: str) -> dict:
        said = command(capsys, "estimate", "config.yaml", "--json", *words)
        assert said.code == 0, said.err
        return json.loads(said.out)

    (cache,), seconds = (found()[name] for name in ("caches", "teacher_seconds"))
    once, live = seconds["teacher 0"]
    assert 0 < once < 60
    assert once / live == pytest.approx(cache["break_even"])
    shown = command(capsys, "estimate", "config.yaml").out
    assert max(map(cell_len, shown.splitlines())) <= 80
    assert "teacher time 0 s of teacher 0 for the cache; live, 0 s beside each run" in " ".join(shown.split())
    assert found("--no-pilot")["teacher_seconds"] == {"teacher 0": None}
    assert command(capsys, "teacher", "cache", "config.yaml", "--teacher-cache", "cache").code == 0
    assert found("--teacher-cache", "cache")["teacher_seconds"] == {"teacher 0": None}


def test_a_stream_is_estimated_by_its_first_rows(here, capsys):
    words = "--streaming --eval-dataset null --no-pilot --json"
    found = json.loads(command(capsys, "estimate", "config.yaml", *words.split()).out)
    assert (found["sampled"], found["time"]["steps"]) == (True, 4)


def test_what_does_not_fit_is_said(here, capsys, monkeypatch):
    from qtarget.job.cost import disk_use, run_cost

    monkeypatch.setattr(run_cost, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(disk_use.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    shown = " ".join(command(capsys, "estimate", "config.yaml", "--no-pilot").out.split())
    assert "are free: take fewer rows at once (`per_device_train_batch_size`)" in shown
    assert "keep fewer checkpoints (`save_total_limit: 1`)" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("config.yaml --task math-50", "math-500"),
        ("confg.yaml", "config.yaml"),
        ("config.yaml --lr 1", "learning_rate"),
    ],
)
def test_what_cannot_be_is_refused(here, capsys, words, said):
    found = command(capsys, "estimate", *words.split())
    assert found.code == 2
    assert said in found.err


def test_the_longest_row_decides_the_largest_batch(here):
    from qtarget.job.cost.batch_shape import batch_shape
    from qtarget.job.rows.rendering import rows_trainer

    write_rows(here / "uneven.jsonl", [{"prompt": "w1 ", "completion": " ".join(["w2"] * n)} for n in (2, 2, 2, 30)])
    words = {"model": "llama", "method": "sft", "teacher": "null", "eta": "null", "eval_dataset": "null"}
    job = job_with(here, train_dataset="uneven.jsonl", **words)
    shape = batch_shape(rows_trainer(job).train_dataset, job)
    assert (shape.rows, shape.width, shape.is_padded) == (2, 32, True)
    assert shape.tokens == pytest.approx(2 * (32 + 4) / 2)  # of two batches one has the long row


def test_a_teacher_that_follows_the_student_has_no_cache_to_pay_for(here):
    rows = CountedRows(Dataset.from_dict({"labels": [[-100, 1]]}), None, None)
    assert cache_costs(job_with(here, teacher="self", ema=0.9), rows) == ()
