"""The shipped models: ordinary Hugging Face folders, small, safe to train on prompts and completions."""

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from qtarget import lab
from qtarget.lab.checkpoints import ASSETS

FOLDERS = [path(world) for world in lab.WORLDS.values() for path in (lab.student_path, lab.teacher_path)]
IDS = [f"{folder.parent.name}-{folder.name}" for folder in FOLDERS]


def test_assets_stay_under_two_megabytes():
    assert sum(file.stat().st_size for file in ASSETS.rglob("*") if file.is_file()) < 2_000_000


@pytest.mark.parametrize("folder", FOLDERS, ids=IDS)
def test_auto_classes_load_a_model_that_knows_the_format(folder):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert model.config.vocab_size == len(tokenizer) == 64
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    ids = tokenizer("3 + 4 * 2 ? 3 + 4 = 7 so 7 *", return_tensors="pt").input_ids
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == "2"


@pytest.mark.parametrize("world", lab.WORLDS.values(), ids=lab.WORLDS)
def test_the_prompt_tokens_begin_the_row_and_every_word_is_known(world):
    tokenizer = lab.tokenizer(world)
    for row in lab.demonstrations(world, 0)[:300]:
        prompt = tokenizer(row["prompt"]).input_ids
        whole = tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token).input_ids
        assert whole[: len(prompt)] == prompt
        assert whole.count(tokenizer.eos_token_id) == 1
        assert whole[-1] == tokenizer.eos_token_id
        assert tokenizer.unk_token_id not in whole
        assert tokenizer.decode(whole[len(prompt) : -1]) == row["completion"].strip()


def test_the_trainer_supervises_the_completion_and_one_end_token(tmp_path):
    world = lab.world("strong-prior")
    rows = lab.demonstrations(world, 0)[:8]
    config = SFTConfig(tmp_path, use_cpu=True, bf16=False, report_to="none", max_length=None)
    tokenizer = lab.tokenizer(world)
    trainer = SFTTrainer(
        model=lab.load_student(world),
        args=config,
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=tokenizer,
    )
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])
    for labels, row in zip(batch["labels"], rows, strict=True):
        assert tokenizer.decode(labels[labels != -100]) == row["completion"].strip() + " <eos>"


def test_teacher_and_student_share_one_tokenizer():
    for world in lab.WORLDS.values():
        teacher = AutoTokenizer.from_pretrained(lab.teacher_path(world))
        assert teacher.get_vocab() == lab.tokenizer(world).get_vocab()
        assert lab.load_teacher(world).num_parameters() > lab.load_student(world).num_parameters()
