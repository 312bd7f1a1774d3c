"""Cases of docs/reliability.md that no room's own tests look at."""

import json
import shutil

import pytest
import tiny_models
from job.command import run as command
from job.directories import write_rows
from reliability.artefacts import CACHE, FULL, user_home
from train import parity

from qtarget.disk.seal import read_seal, seal
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

OTHER_TEMPLATE = tiny_models.CHAT_TEMPLATE.replace("<user>", "<user> w1 ")


@pytest.mark.failure_case(10)
@pytest.mark.parametrize("make", [tiny_models.prompt_completion, tiny_models.messages, tiny_models.plain_text])
def test_the_end_is_learned_where_it_is_the_padding_too(make):
    tokenizer = tiny_models.tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    trainer = TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="dft", **parity.common_args(per_device_train_batch_size=4)),
        train_dataset=make(8),
        processing_class=tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    lengths = batch["attention_mask"].sum(-1)
    assert len(set(lengths.tolist())) > 1
    for ids, labels, length in zip(batch["input_ids"], batch["labels"], lengths, strict=True):
        assert (ids[length:] == tokenizer.eos_token_id).all()
        assert (labels[length:] == -100).all()
        assert labels[length - 1] == ids[length - 1] == tokenizer.eos_token_id


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / ".cache")
    monkeypatch.chdir(user_home(tmp_path))
    return tmp_path


@pytest.mark.failure_case(11)
def test_a_cache_is_refused_under_another_template_tokenizer_or_precision(home, capsys):
    write_rows(home / "chat.jsonl", list(tiny_models.messages(8, seed=1)))
    chat = ("--train-dataset", "chat.jsonl", "--eval-dataset", "null")
    assert command(capsys, *CACHE, *chat).code == 0
    train = ("train", "config.yaml", *chat, "--teacher-cache", "cache")
    (home / "other.jinja").write_text(OTHER_TEMPLATE, encoding="utf-8")
    said = command(capsys, *train, "--chat-template-path", "other.jinja")
    assert (said.code, "chat template: " in said.err) == (2, True), said.err
    for name in ("qwen2", "teacher"):
        file = home / name / "tokenizer.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        vocab = content["model"]["vocab"]
        vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
        file.write_text(json.dumps(content), encoding="utf-8")
    said = command(capsys, *train)
    assert (said.code, "tokenizer: " in said.err) == (2, True), said.err
    said = command(capsys, *CACHE, *chat, "--teacher-dtype", "bfloat16")
    assert (said.code, "compute dtype: " in said.err) == (2, True), said.err


@pytest.mark.failure_case(24)
def test_a_run_on_another_number_of_ranks_is_refused_with_the_difference(home, capsys):
    assert command(capsys, *FULL).code == 0
    checkpoint = home / "out" / "checkpoint-2"
    facts = read_seal(checkpoint).facts
    facts["history"][-1]["identity"]["ranks"] = 4
    seal(checkpoint, facts)  # as four ranks would have
    shutil.rmtree(home / "out" / "checkpoint-4")
    said = command(capsys, *FULL, "--resume-from-checkpoint")
    assert said.code == 2
    assert "ranks: 4 then, 1 now" in said.err
    assert "`resume_changed: [ranks]`" in said.err
