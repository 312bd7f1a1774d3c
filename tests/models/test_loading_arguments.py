"""Arguments of a model that nothing takes are refused by name, and those that something takes are not."""

import pytest
import tiny_models
import torch
import yaml
from transformers import AutoModelForCausalLM

from qtarget.data import Asker
from qtarget.models.loading import causal_lm_from
from qtarget.models.loading_arguments import unknown_arguments
from qtarget.models.weight_files import safe_loading
from qtarget.teacher.live import load_live_model
from qtarget.train import TargetSFTConfig
from qtarget.train.open_student import open_student

UNKNOWN = {"auto": 1, "cuda": 1, "typo": 1, "hf_token": "x", "dtpe": "float32", "Token": "x", "proxie": {}}
KNOWN = {
    "dtype": torch.float32,
    "attn_implementation": "eager",
    "use_cache": False,
    "max_memory": None,
    "low_cpu_mem_usage": True,
    "torch_dtype": "auto",
    "ignore_mismatched_sizes": True,
    "local_files_only": True,
    "proxies": None,
    "output_loading_info": False,
    "tp_plan": None,
    "key_mapping": None,
    "adapter_kwargs": None,
}


CALLABLE = ("to_dict", "save_pretrained", "from_dict")
"""Functions of a configuration, which are no fields of it."""
CHANGED = {
    "num_hidden_layers: 1": "leave out model.layers.1",
    "num_hidden_layers: 3": "its configuration does not take",
    "hidden_size: 16": "take ",
    "tie_word_embeddings: true": "leave out lm_head.weight",
    "model_type: llama": "LlamaConfig",
    "layer_types: [x]": "its configuration does not take",
    "num_attention_heads: none": "its configuration does not take",
    "output_loading_info: true": "asks for more than the model",
    "load_in_4bit: 1": "bitsandbytes does not take",
    "bnb_4bit_typo: 1": "bitsandbytes does not take",
}
"""Arguments, and why they are refused: each would be another model than the folder's, or none."""
HARMLESS = (
    "attention_dropout: 0.1",
    "pad_token_id: 3",
    "num_labels: 3",
    "tie_word_embeddings: false",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny_models.tiny_model().save_pretrained(path)
    return str(path)


def test_what_is_refused_is_what_transformers_has_no_words_for(folder):
    for name, value in UNKNOWN.items():
        assert unknown_arguments(folder, {name: value}) == [name]
        with pytest.raises(TypeError, match="unexpected keyword"):
            AutoModelForCausalLM.from_pretrained(folder, **{name: value})
    for name, value in KNOWN.items():
        assert unknown_arguments(folder, {name: value}) == []
        AutoModelForCausalLM.from_pretrained(folder, **{name: value})


@pytest.mark.failure_case(25)
def test_the_error_names_it_and_the_nearest(folder):
    with pytest.raises(ValueError, match=r"teacher_init_kwargs .* holds `dtpe` \(did you mean `dtype`\?\), .*remove"):
        causal_lm_from(folder, {"dtpe": "float32"})


@pytest.mark.failure_case(25)
def test_what_makes_another_model_of_it_is_refused_before_weights_are_read(folder, tmp_path):
    for name in CALLABLE:
        assert unknown_arguments(folder, {name: 1}) == [name]
    for text, reason in CHANGED.items():
        with pytest.raises(ValueError, match=r"teacher_init_kwargs") as refused:
            causal_lm_from(folder, yaml.safe_load(f"{{{text}}}"))
        assert reason in str(refused.value), (text, refused.value)
        assert f"`{text.partition(':')[0]}: " in str(refused.value)
        assert "remove it" in str(refused.value)
    tiny_models.tiny_model("llama").save_pretrained(tmp_path)
    for text in ("num_hidden_layers: 3", "attention_bias: true"):
        with pytest.raises(ValueError, match=r"which would draw model\.layers\.") as refused:
            causal_lm_from(str(tmp_path), yaml.safe_load(f"{{{text}}}"))
    for text in HARMLESS:
        causal_lm_from(folder, yaml.safe_load(f"{{{text}}}"))


@pytest.mark.failure_case(25)
def test_two_dtypes_at_once_are_refused_unless_they_are_one(folder):
    with pytest.raises(ValueError, match=r"holds `dtype: float32` and `torch_dtype: bfloat16`, two values of one"):
        causal_lm_from(folder, {"dtype": torch.float32, "torch_dtype": "bfloat16"})
    assert causal_lm_from(folder, {"dtype": torch.bfloat16, "torch_dtype": "bfloat16"}).dtype == torch.bfloat16
    kwargs = {"device": torch.device("cpu"), "init_kwargs": {"torch_dtype": "bfloat16"}}
    assert load_live_model(folder, "teacher", **kwargs).dtype == torch.bfloat16


@pytest.mark.failure_case(25)
def test_settings_of_bitsandbytes_among_a_students_arguments_are_sent_where_they_belong(folder):
    args = TargetSFTConfig(method="sft", model_init_kwargs={"load_in_4bit": True}, use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match=r"model_init_kwargs=None.*BitsAndBytesConfig\(load_in_4bit=True\)"):
        open_student(folder, None, args, None)
    with pytest.raises(ValueError, match=r"`model_init_kwargs: null` .*`load_in_4bit: true` \(or --load-in-4bit true"):
        open_student(folder, None, args, None, Asker.COMMAND_LINE)


def test_a_model_that_is_not_there_is_left_to_who_loads_it(tmp_path):
    assert unknown_arguments(str(tmp_path / "nothing"), UNKNOWN) == []


def test_the_old_name_of_dtype_means_it(folder):
    assert safe_loading(folder, {"torch_dtype": "bfloat16"}, False) == {"dtype": "bfloat16", "use_safetensors": True}
