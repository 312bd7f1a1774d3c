"""A model whose configuration names a kernel of the hub is refused before transformers fetches and runs it."""

import json
from functools import partial

import pytest
import tiny_models
from datasets import Dataset
from job.command import run
from job.directories import model_directory, write_rows
from peft import LoraConfig, get_peft_model
from train import parity
from transformers import modeling_utils

from qtarget.models.loading import causal_lm_from
from qtarget.models.merging import merge_adapter, plan_merge
from qtarget.train import TargetSFTConfig, TargetSFTTrainer

KERNEL = "somebody/kernel"
NAMED = {
    "a field": {"attn_implementation": KERNEL},
    "a revision": {"attn_implementation": f"paged|{KERNEL}@main:run"},
    "a field of transformers' own": {"_attn_implementation": KERNEL},
    "a table": {"attn_implementation": {"": KERNEL}},
    "experts": {"experts_implementation": KERNEL},
    "another name for it": {"attribute_map": {"size": "_attn_implementation"}, "size": KERNEL},
    "another name to read it by": {"attribute_map": {"_attn_implementation": "size"}, "size": KERNEL},
}
RUN = ("--model", "model", "--train-dataset", "rows.jsonl", "--output-dir", "out", "--method", "sft", "--bf16", "false")
SAYS = r"config\.json of .* says `(attn|experts)_implementation: .*somebody/kernel.*, a kernel"


@pytest.fixture
def fetched(monkeypatch) -> list[str]:
    """The kernels that transformers is about to fetch."""
    names: list[str] = []

    def fetch(name: str, **kwargs) -> None:
        names.append(name)
        raise ImportError(name)

    monkeypatch.setattr(modeling_utils, "lazy_import_flash_attention", fetch)
    return names


def folder_that_says(folder, fields) -> str:
    model_directory(folder)
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **fields}), encoding="utf-8")
    return str(folder)


@pytest.mark.failure_case(25)
@pytest.mark.parametrize("fields", NAMED.values(), ids=NAMED)
def test_a_kernel_that_a_folder_names_is_not_fetched(tmp_path, fetched, fields):
    source = folder_that_says(tmp_path / "model", fields)
    adapter = tmp_path / "adapter"
    get_peft_model(tiny_models.tiny_model(), LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(adapter)
    file = adapter / "adapter_config.json"
    given = {**json.loads(file.read_text(encoding="utf-8")), "base_model_name_or_path": source}
    file.write_text(json.dumps(given), encoding="utf-8")
    given = {"train_dataset": Dataset.from_list(tiny_models.token_rows(4))}
    train = partial(TargetSFTTrainer, **given, processing_class=tiny_models.tiny_tokenizer())
    args = partial(parity.common_args, output_dir=str(tmp_path / "out"))
    taught = {"method": "kd", "teacher": source}
    opened = [
        lambda: causal_lm_from(source, {}),
        lambda: causal_lm_from(str(adapter), {}),
        lambda: merge_adapter(plan_merge(str(adapter), None), tmp_path / "merged"),
        lambda: train(source, TargetSFTConfig(method="sft", **args())),
        lambda: train(tiny_models.tiny_model(), TargetSFTConfig(**taught, **args())),
    ]
    for open_it in opened:
        with pytest.raises(ValueError, match=SAYS):
            open_it()
    assert not fetched


@pytest.mark.failure_case(25)
def test_what_the_user_says_himself_is_taken(tmp_path, fetched):
    source = folder_that_says(tmp_path / "model", NAMED["a field"])
    causal_lm_from(source, {"attn_implementation": "eager", "attention_dropout": 0.1})
    with pytest.raises(ValueError, match=SAYS):
        causal_lm_from(source, {"attn_implementation": None})
    assert not fetched
    with pytest.raises(ImportError, match="own/kernel"):
        causal_lm_from(source, {"attn_implementation": "own/kernel"})
    with pytest.raises(ValueError, match=SAYS):
        causal_lm_from(
            folder_that_says(tmp_path / "other", NAMED["a field of transformers' own"]),
            {"attn_implementation": "eager"},
        )


@pytest.mark.failure_case(25)
@pytest.mark.parametrize(
    "words",
    [
        ("validate", *RUN),
        ("estimate", *RUN, "--no-pilot"),
        ("train", *RUN),
        ("eval", "model", "--task", "lab-strong-prior", "--out", "out"),
        ("chat", "model"),
        ("teacher", "serve", "model"),
    ],
    ids=lambda words: words[0],
)
def test_every_command_refuses_it(tmp_path, fetched, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    folder_that_says(tmp_path / "model", NAMED["a field"])
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "1+1=", "completion": "2"}] * 8)
    said = run(capsys, *words)
    assert (said.code, fetched) == (2, [])
    assert "attn_implementation: somebody/kernel" in " ".join(said.err.split())
