"""A model is opened as it was saved, or refused by the names of weights that its files lack or hold in vain."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
import torch
from job.directories import model_directory
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.models.loading import causal_lm_from
from qtarget.models.merging import merge_adapter, plan_merge
from qtarget.teacher.served.model import load_served_model
from qtarget.teacher.served.wire import Limits
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

UP = "model.layers.1.mlp.up_proj.weight"
FULL = "full_attention"


def configure(folder: Path, **fields) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **fields}), encoding="utf-8")


def write(folder: Path, change: Callable[[dict], object], file: str = "model.safetensors") -> None:
    weights = load_file(folder / file)
    change(weights)
    save_file(weights, folder / file, metadata={"format": "pt"})


def in_parts(folder: Path) -> None:
    """Two files with an index of what they hold, and one weight in neither."""
    weights = load_file(folder / "model.safetensors")
    weights.pop(UP)
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, held in parts.items():
        save_file({name: weights[name] for name in held}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (folder / "model.safetensors").unlink()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "another family": (
        lambda folder: configure(folder, model_type="gpt2", architectures=["GPT2LMHeadModel"]),
        r"28 weights \(transformer\.h\.0\.attn\.c_attn\.bias, .*, \.\.\.\) are in none of its files .* drawn at random",
    ),
    "a weight": (lambda folder: write(folder, lambda held: held.pop(UP)), rf"1 weight \({UP}\) is in none of its"),
    "a weight of several files": (in_parts, rf"1 weight \({UP}\) is in none of its files"),
    "the head": (
        lambda folder: write(folder, lambda held: held.pop("lm_head.weight")),
        r"1 weight \(lm_head\.weight\) is in none of its files .* tie_word_embeddings",
    ),
    "a layer too many": (
        lambda folder: configure(folder, num_hidden_layers=3, layer_types=[FULL] * 3),
        r"12 weights \(model\.layers\.2\..*\) are in none of its files .* num_hidden_layers",
    ),
    "a layer too few": (
        lambda folder: configure(folder, num_hidden_layers=1, layer_types=[FULL]),
        r"12 weights \(model\.layers\.1\..*\) are in its files and would be left out",
    ),
    "no place for biases": (
        lambda folder: configure(folder, model_type="llama", architectures=["LlamaForCausalLM"]),
        r"6 weights \(model\.layers\.0\.self_attn\.k_proj\.bias, .*\) are in its files and would be left out",
    ),
    "another shape": (
        lambda folder: write(folder, lambda held: held.update({"model.norm.weight": torch.ones(7)})),
        r"1 weight \(model\.norm\.weight: \[7\] in a file, \[32\] in the model\) is of another shape",
    ),
}


def as_student(folder: Path, **given) -> None:
    args = TargetSFTConfig(method="sft", output_dir=str(folder.parent / "out"), use_cpu=True, report_to=[], **given)
    TargetSFTTrainer(str(folder), args, train_dataset=tiny_models.prompt_completion())


def as_teacher(folder: Path) -> None:
    args = TargetSFTConfig(method="kd", output_dir=str(folder.parent / "out"), use_cpu=True, report_to=[])
    student = model_directory(folder.parent / "student", "qwen2")
    TargetSFTTrainer(student, args, train_dataset=tiny_models.prompt_completion(), teacher=str(folder))


OPENED: dict[str, Callable[[Path], object]] = {
    "student": as_student,
    "teacher": as_teacher,
    "server": lambda folder: load_served_model(str(folder), "float32", Limits()),
    "evaluation": lambda folder: HuggingFace(str(folder)).network,
}


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(model_directory(tmp_path / "model", "qwen2"))


@pytest.mark.failure_case(25)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("opened", OPENED)
def test_no_weight_is_drawn_at_random(folder, opened, damage):
    make, told = DAMAGES[damage]
    make(folder)
    with pytest.raises(ValueError, match=told) as refused:
        OPENED[opened](folder)
    assert str(refused.value).startswith(f"{folder} would not be opened as it was saved")


def test_an_argument_lets_no_weight_be_drawn(folder):
    write(folder, lambda held: held.update({"model.norm.weight": torch.ones(7)}))
    with pytest.raises(ValueError, match=r"model\.norm\.weight.* is of another shape and would be drawn"):
        causal_lm_from(str(folder), {"ignore_mismatched_sizes": True})
    with pytest.raises(ValueError, match=r"model\.norm\.weight.* is of another shape and would be drawn"):
        as_student(folder, model_init_kwargs={"ignore_mismatched_sizes": True})


def test_experts_that_lack_a_part_are_named(tmp_path):
    folder = Path(model_directory(tmp_path / "model", "mixtral"))
    causal_lm_from(str(folder), {})
    write(folder, lambda held: held.pop(next(name for name in held if "experts.1.w1" in name)))
    with pytest.raises(ValueError, match=r"experts\.gate_up_proj\) is not to be put together from what its files hold"):
        causal_lm_from(str(folder), {})


def test_what_may_lack_is_no_fault(tmp_path):
    """A head that is the embeddings, by either name; parts of a model that are more than its text."""
    folder = Path(model_directory(tmp_path / "model", "qwen2", tied=True))
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    causal_lm_from(str(folder), {})
    write(folder, lambda held: held.update({"lm_head.weight": held.pop("model.embed_tokens.weight")}))
    more = {name: torch.zeros(2) for name in ("visual.blocks.0.attn.weight", "mtp.fc.weight", "v_head.summary.weight")}
    write(folder, lambda held: held.update({**more, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(2)}))
    causal_lm_from(str(folder), {})
    write(folder, lambda held: held.pop("lm_head.weight"))
    with pytest.raises(ValueError, match=r"2 weights \(lm_head\.weight, model\.embed_tokens\.weight\) are in none"):
        causal_lm_from(str(folder), {})


def test_layers_that_predict_further_tokens_may_be_left_out(folder):
    configure(folder, num_hidden_layers=1, layer_types=[FULL], num_nextn_predict_layers=1)
    assert len(causal_lm_from(str(folder), {}).model.layers) == 1


# Adapters

ADAPTER = "adapter_model.safetensors"


@pytest.fixture
def adapter(folder) -> Path:
    made = folder.parent / "adapter"
    base = causal_lm_from(str(folder), {})
    get_peft_model(base, LoraConfig(target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")).save_pretrained(made)
    return made


def without_one(adapter: Path) -> None:
    write(adapter, lambda held: held.pop(next(name for name in held if "layers.1.mlp.up_proj.lora_B" in name)), ADAPTER)


def of_more_layers(adapter: Path) -> None:
    """As training leaves an adapter of a deeper model."""
    write(
        adapter,
        lambda held: held.update(
            {name.replace("s.1.", "s.2."): held[name].clone() for name in [*held] if "s.1." in name}
        ),
        ADAPTER,
    )


def merged(adapter: Path) -> None:
    merge_adapter(plan_merge(str(adapter), None), adapter.parent / "merged")


def beside_the_students(adapter: Path) -> None:
    args = TargetSFTConfig(method="kd", output_dir=str(adapter.parent / "out"), use_cpu=True, report_to=[])
    rows, base = tiny_models.prompt_completion(), str(adapter.parent / "model")
    TargetSFTTrainer(
        base, args, train_dataset=rows, teacher=str(adapter), peft_config=LoraConfig(target_modules=["q_proj"])
    )


USED = {
    "loaded": lambda adapter: causal_lm_from(str(adapter), {}),
    "evaluated": lambda adapter: HuggingFace(str(adapter.parent / "model"), str(adapter)).network,
    "merged": merged,
    "beside the student's": beside_the_students,
}


@pytest.mark.parametrize("used", USED)
def test_an_adapter_is_whole(adapter, used):
    USED[used](adapter)
    shutil.rmtree(adapter.parent / "merged", ignore_errors=True)
    of_more_layers(adapter)
    with pytest.raises(ValueError, match=rf"{re.escape(str(adapter))}.* 4 weights \(.*layers\.2.*\) are in its files"):
        USED[used](adapter)


@pytest.mark.parametrize("used", USED)
def test_an_adapter_lacks_nothing(adapter, used):
    without_one(adapter)
    with pytest.raises(ValueError, match=r"1 weight \(.*layers\.1\.mlp\.up_proj\.lora_B.*\) is in no"):
        USED[used](adapter)


@pytest.mark.parametrize("used", [each for each in USED if each != "beside the student's"])
def test_the_model_under_an_adapter_is_whole(adapter, used):
    write(adapter.parent / "model", lambda held: held.pop(UP))
    with pytest.raises(ValueError, match=rf"1 weight \({UP}\) is in none of its files"):
        USED[used](adapter)
