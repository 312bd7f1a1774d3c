"""Folders of models that qtarget sealed: what a loader reads must be as it was written; the rest may be edited."""

import json
from pathlib import Path

import pytest
from job.directories import model_directory
from peft import LoraConfig, get_peft_model

from qtarget.disk.seal import SEAL, seal
from qtarget.models.gguf_file import checkpoint_folder
from qtarget.models.loading import causal_lm_from, tokenizer_of
from qtarget.models.model_seal import refuse_damaged_model


@pytest.fixture
def folder(tmp_path) -> Path:
    made = Path(model_directory(tmp_path / "model"))
    (made / "README.md").write_text("card")
    (made / "trainer_state.json").write_text("{}")
    seal(made, {"kind": "result"})
    return made


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_whole_one_is_opened_and_what_no_loader_reads_may_be_edited_or_added(folder):
    (folder / "README.md").write_text("a better card")
    (folder / "trainer_state.json").unlink()
    (folder / "notes.txt").write_text("mine")
    causal_lm_from(str(folder), {})


@pytest.mark.failure_case(2)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("open_it", [lambda name: causal_lm_from(name, {}), tokenizer_of, checkpoint_folder])
def test_a_damaged_one_is_refused_by_everything_that_opens_it(folder, name, open_it):
    open_it(str(folder))  # what was hashed once is looked at again when it changes
    flip(folder / name)
    with pytest.raises(
        ValueError, match=rf"{name} has other content.*if the change is yours and meant, delete .*{SEAL}"
    ):
        open_it(str(folder))
    (folder / SEAL).unlink()
    refuse_damaged_model(str(folder))


ADDED = (
    "adapter_config.json", "adapter_model.safetensors", "model.safetensors.index.json", "model-00001.safetensors",
    "pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "quantize_config.json", "added_tokens.json",
    "special_tokens_map.json", "vocab.json", "merges.txt", "tokenizer.model", "chat_template.json",
    "additional_chat_templates/tool.jinja",
)  # fmt: skip
HARMLESS = (
    "card.md", "loss.jpg", "eval.log", "results.json", "events.out.tfevents.1", "notes.txt", "plot.py", "optimizer.pt",
    "checkpoint-2/model.safetensors", "evaluation/run.json", ".gitattributes", "LICENSE",
)  # fmt: skip


@pytest.mark.failure_case(2)
def test_a_file_that_a_loader_would_read_cannot_be_added(folder):
    checkpoint_folder(str(folder))
    for name in ADDED:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
        with pytest.raises(ValueError, match=rf"is damaged: {name} was added after it was sealed.*delete .*{SEAL}"):
            checkpoint_folder(str(folder))
        (folder / name).unlink()
    checkpoint_folder(str(folder))


def test_what_no_loader_reads_may_be_added(folder):
    for name in HARMLESS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
        checkpoint_folder(str(folder))


def test_code_cannot_be_added_to_a_model_with_code_of_its_own(folder):
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_mine.Mine"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_mine.py").write_text("")
    seal(folder, {"kind": "result"})
    checkpoint_folder(str(folder))
    (folder / "helper.py").write_text("")
    with pytest.raises(ValueError, match=r"helper.py was added after it was sealed"):
        checkpoint_folder(str(folder))


@pytest.mark.failure_case(2)
def test_an_adapter_of_another_run_added_to_a_result_is_refused(folder, tmp_path):
    other = Path(model_directory(tmp_path / "other"))
    get_peft_model(causal_lm_from(str(other), {}), LoraConfig(target_modules="all-linear")).save_pretrained(folder)
    with pytest.raises(ValueError, match=r"adapter_config.json was added .*; adapter_model.safetensors was added"):
        causal_lm_from(str(folder), {})


def test_the_base_of_an_adapter_is_looked_at_too(folder, tmp_path):
    adapter = tmp_path / "adapter"
    get_peft_model(causal_lm_from(str(folder), {}), LoraConfig(target_modules="all-linear")).save_pretrained(adapter)
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(folder)
    refuse_damaged_model(str(adapter))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model.safetensors is missing"):
        checkpoint_folder(str(adapter))


@pytest.mark.parametrize("content", ['{"name": "an app", "icons": []}', "[]", '\ufeff{"name": "an app"}', "3"])
def test_a_manifest_of_somebody_elses_says_nothing(folder, content):
    (folder / SEAL).write_text(content, encoding="utf-8")
    checkpoint_folder(str(folder))


def test_what_is_left_of_ours_is_refused_with_the_remedy(folder):
    whole = (folder / SEAL).read_bytes()
    flip(folder / "model.safetensors")
    left = [whole[:size] for size in (0, 1, 10, 40, len(whole) // 2, len(whole) - 2)]
    left += [bytes(len(whole)), b"\xff" * 9, b" ", b"[" * 100_000, whole.replace(b'"files"', b'"giles"')]
    for content in left:
        (folder / SEAL).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{SEAL} is damaged .*; bring .* back .*, or delete .*{SEAL}"):
            checkpoint_folder(str(folder))
