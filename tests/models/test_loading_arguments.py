"""Arguments of a model that nothing takes are refused by name, and those that something takes are not."""

import pytest
import tiny_models
import torch
from transformers import AutoModelForCausalLM

from qtarget.models.loading import causal_lm_from
from qtarget.models.loading_arguments import unknown_arguments
from qtarget.models.weight_files import safe_loading

UNKNOWN = {"typo": 1, "hf_token": "x", "dtpe": "float32", "Token": "x", "proxie": {}}
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


def test_a_model_that_is_not_there_is_left_to_who_loads_it(tmp_path):
    assert unknown_arguments(str(tmp_path / "nothing"), UNKNOWN) == []


def test_the_old_name_of_dtype_means_it(folder):
    assert safe_loading(folder, {"torch_dtype": "bfloat16"}, False) == {"dtype": "bfloat16", "use_safetensors": True}
