"""A live model in any precision and on any device says what the plain one says, where the student is."""

import pytest
import tiny_models
import torch

from qtarget.target.source_logits import dense_logits
from qtarget.teacher import LiveModel, load_live_model

CPU = torch.device("cpu")
IDS = torch.randint(5, tiny_models.VOCAB, (2, 8), generator=torch.Generator().manual_seed(0))
ON_DISK = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "disk",
    "model.layers.1": "disk",
    "model.norm": "cpu",
    "model.rotary_emb": "cpu",
    "lm_head": "cpu",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher")
    tiny_models.tiny_model("llama", width=64).save_pretrained(path)
    return path


def loaded(folder, **kwargs):
    return load_live_model(str(folder), "teacher", device=CPU, **kwargs)


def divergence(folder, **kwargs):
    """Mean KL from the plain model to one loaded otherwise, in nats."""
    found = dense_logits(LiveModel(loaded(folder, **kwargs)).evidence({"input_ids": IDS})).float().log_softmax(-1)
    plain = dense_logits(LiveModel(loaded(folder)).evidence({"input_ids": IDS})).log_softmax(-1)
    return float(torch.nn.functional.kl_div(found, plain, log_target=True, reduction="none").sum(-1).mean())


def test_precisions_differ_by_their_rounding(folder):
    """8 bits with the weights' outliers apart, 4 bits with a scale for each block of 64."""
    assert 0 < divergence(folder, dtype="bfloat16") < 1e-3
    assert divergence(folder, dtype="float32") == 0
    assert 1e-7 < divergence(folder, init_kwargs={"load_in_8bit": True}) < 2e-2
    assert 1e-3 < divergence(folder, init_kwargs={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}) < 0.5


def test_settings_of_bitsandbytes_stand_alone_or_in_their_own_mapping(folder):
    """YAML has no BitsAndBytesConfig."""
    settings = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    flat, nested = (loaded(folder, init_kwargs=given) for given in (settings, {"quantization_config": settings}))
    assert flat.config.quantization_config.to_dict() == nested.config.quantization_config.to_dict()
    assert flat.config.quantization_config.bnb_4bit_quant_type == "nf4"
    assert not any(weight.requires_grad for weight in flat.parameters())
    with pytest.raises(ValueError, match=r"\['load_in_4bit'\] stand beside quantization_config"):
        loaded(folder, init_kwargs={"load_in_4bit": True, "quantization_config": {"load_in_8bit": True}})


@pytest.mark.parametrize("device_map", [{"": "cpu"}, "auto", ON_DISK], ids=["device", "auto", "disk"])
def test_a_model_placed_by_a_device_map_says_the_same(folder, device_map, tmp_path):
    init_kwargs = {"device_map": device_map, "offload_folder": str(tmp_path)}
    assert divergence(folder, init_kwargs=init_kwargs) == 0
    if device_map is ON_DISK:
        assert loaded(folder, init_kwargs=init_kwargs).model.layers[0].mlp.up_proj.weight.is_meta


def test_an_offloaded_output_layer_is_refused(folder, tmp_path):
    init_kwargs = {"device_map": {**ON_DISK, "lm_head": "disk"}, "offload_folder": str(tmp_path)}
    with pytest.raises(ValueError, match=r"output layer \(lm_head\) is offloaded.*teacher_init_kwargs: .*lm_head: cpu"):
        loaded(folder, init_kwargs=init_kwargs)


def test_the_head_of_a_model_where_the_student_is_is_not_copied(folder):
    model = loaded(folder)
    assert LiveModel(model).evidence({"input_ids": IDS}).head.weight is model.lm_head.weight


def test_a_model_cut_over_ranks_needs_ranks(folder):
    with pytest.raises(ValueError, match="this run is one process; start it with `accelerate launch`"):
        loaded(folder, init_kwargs={"device_map": "fsdp"})
