"""What a run is said to take, against counts by hand and against the models themselves."""

import json
from dataclasses import replace

import pytest
import torch
from job.command import run as command
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from qtarget.recipes import estimates
from qtarget.recipes.estimates import (
    GenerationLoad,
    Shape,
    Workload,
    generation_hours,
    memory,
    training_flops,
    training_hours,
)
from qtarget.recipes.recipe_files import recipe, shapes
from qtarget.recipes.resolve import generation_of

SMALL = Shape("llama", hidden=8, intermediate=16, layers=2, heads=2, kv_heads=1, head_dim=4, vocabulary=10, tied=False)
LOAD = Workload(SMALL, None, tokens=1000, rows=2, length=6, gpus=4, sharded=False, flops=1e6, utilization=0.5)
PUBLISHED = {
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen3-8b": 8_190_735_360,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.1-8b": 8_030_261_248,
}


@pytest.mark.parametrize("name", sorted(shapes().shapes))
def test_parameters_are_those_of_the_architecture(name):
    shape = shapes().shapes[name]
    config = AutoConfig.for_model(
        shape.family,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert shape.parameters == model.num_parameters()
    assert shape.parameters == PUBLISHED.get(name, shape.parameters)


def test_a_layer_by_hand():
    # q 8·8, k and v 8·4 each, o 8·8; gate, up and down 3·8·16; two norms of 8
    assert SMALL.layer == 64 + 32 + 32 + 64 + 384 + 16
    assert SMALL.parameters == 2 * 592 + 8 + 2 * 80
    assert replace(SMALL, family="qwen2").layer == 592 + 8 + 4 + 4  # biases of q, k, v
    assert replace(SMALL, family="qwen3").layer == 592 + 2 * 4  # norms of queries and keys


def test_memory_by_hand():
    found = memory(LOAD)
    assert (found.weights, found.optimizer) == ((4 + 2) * 1352, 8 * 1352)
    assert found.gradients == 2 * 4 * 1352  # and DDP's buckets
    assert memory(replace(LOAD, gpus=1)).gradients == 4 * 1352
    # 12 tokens in bf16: 2 inputs of 8; inside a layer 4·8, queries 2·8, keys and values 2·4, MLP 4·16
    assert found.activations == 2 * 12 * (16 + 32 + 16 + 8 + 64)
    assert found.loss == 1024 * 10 * 4 + 4 * 80
    assert found.teacher == 0
    assert found.total == 8112 + 10816 + 10816 + 3264 + 41280


def test_memory_that_is_cut_over_gpus_and_a_teacher():
    found = memory(replace(LOAD, sharded=True, teacher=SMALL))
    assert found.weights == 4 * 1352 // 4 + 2 * (2 * 592 + 80)  # a quarter, and what is gathered in bf16
    assert found.optimizer == 8 * 1352 // 4
    # its output layer whole, two layers gathered, the rest cut, and hidden states of 12 tokens, all in bf16
    assert found.teacher == 2 * (1352 - 80) // 4 + 2 * 80 + 4 * 592 + 2 * 12 * 8
    assert found.loss == 2 * 1024 * 10 * 4 + 4 * 80


def test_operations_and_hours_by_hand():
    attention = 4 * 2 * 2 * 4 * 6 // 2  # layers, heads, their width, and half of 6 tokens before
    token = 8 * 2 * 592 + 6 * 80 + 4 * attention
    assert training_flops(LOAD) == 1000 * token
    teacher = 2 * (2 * 592 + 80) + attention
    assert training_flops(replace(LOAD, teacher=SMALL)) == 1000 * (token + teacher)
    assert training_hours(LOAD) == pytest.approx(1000 * token / (4 * 1e6 * 0.5) / 3600)


def test_operations_are_those_that_a_forward_pass_counts():
    shape = Shape("qwen2", 64, 160, 3, heads=4, kv_heads=2, head_dim=16, vocabulary=500, tied=False)
    config = AutoConfig.for_model(
        "qwen2",
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=500,
        tie_word_embeddings=False,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.zeros(2, 128, dtype=torch.long), use_cache=False)
    half = estimates._attention(shape, 128)  # the counter takes attention for full, not causal
    assert counter.get_total_flops() == pytest.approx(2 * 128 * (estimates._forward(shape, 128) + half), rel=0.01)


def test_hours_of_answers_by_hand():
    load = GenerationLoad(SMALL, answers=64, length=10, at_once=32, layer_seconds=0.5, bandwidth=1e6)
    assert generation_hours(load) == pytest.approx(2 * 10 * (2 * 0.5) / 3600)  # two batches, two layers
    weights, kept = 2 * (2 * 592 + 80), 2 * 2 * 2 * 1 * 4 * 32 * 10 // 2  # both in bf16
    read = replace(load, layer_seconds=0.0)
    assert generation_hours(read) == pytest.approx(2 * 10 * (weights + kept) / 1e6 / 3600)


def test_an_arms_evaluation_takes_about_a_day_with_transformers_and_its_hours_stand_beside_trainings(capsys):
    one = recipe("openr1-15k-qwen2.5-math-1.5b")
    slow, fast = (generation_of(one, name) for name in ("hf", "vllm"))
    assert slow.answers == 16 * 1517 == 24_272
    assert 20 < generation_hours(slow) < 30
    assert generation_hours(fast) < generation_hours(slow) / 10
    facts = json.loads(command(capsys, "recipes", "show", one.name, "--json").out)["methods"]["sft"]
    assert facts["estimated_evaluation_hours"] == {"hf": generation_hours(slow), "vllm": generation_hours(fast)}


def test_sets_of_unknown_size_are_said_to_be_left_out(capsys):
    one = recipe("m23k-qwen2.5-7b")
    assert generation_of(one, "hf").answers == 16 * (1273 + 4183 + 1000)
    shown = " ".join(command(capsys, "recipes", "show", one.name).out.split())
    assert "Left out, as their number of questions is not known: mmlu-pro-health, gpqa, lancet" in shown
    listed = command(capsys, "recipes", "list").out
    row = next(line for line in listed.splitlines() if one.name in line)
    assert f"{5 * generation_hours(generation_of(one, 'hf')):.0f}+" in row
