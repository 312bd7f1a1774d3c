"""vLLM where it is not installed: a module in its place takes down what it is called with."""

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import pytest
from evaluate.generators.cases import STUDENT, WORLD, asked, requests

from qtarget import lab
from qtarget.evaluate.generators.vllm import VLLM


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_the_library_the_line_to_install_it_is_said():
    with pytest.raises(ImportError, match=r"pip install 'qtarget\[train,vllm\]'.*--generator http"):
        VLLM("model")


class Engine(SimpleNamespace):
    """Answers each prompt with one token, and keeps what it was asked."""

    asked: ClassVar[list] = []

    def generate(self, prompts, sampling, **_):
        self.asked[:] = zip(prompts, sampling, strict=True)
        output = SimpleNamespace(text="x", token_ids=[5], finish_reason="stop")
        return [SimpleNamespace(outputs=[output]) for _ in prompts]


@pytest.fixture
def library(monkeypatch):
    for name, inside in {
        "vllm": {"LLM": Engine, "SamplingParams": SimpleNamespace},
        "vllm.inputs": {"TokensPrompt": dict},
        "vllm.lora.request": {"LoRARequest": lambda *_: None},
    }.items():
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        vars(sys.modules[name]).update(inside)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("has_adapter", [False, True])
def test_it_is_told_the_end_token_that_was_trained(tmp_path, has_adapter):
    """vLLM adds those of the base's generation_config.json; an adapter's tokenizer may have another."""
    one, tokenizer = asked(2, k=1), lab.tokenizer(WORLD)
    if has_adapter:
        tokenizer.eos_token = tokenizer.pad_token
        tokenizer.save_pretrained(tmp_path)
    generator = VLLM(str(STUDENT), adapter=str(tmp_path) if has_adapter else None)
    answers = list(generator.generate(requests(one), one.ask))
    assert [answer.finish for answer in answers] == ["stop", "stop"]
    assert {tuple(sampling.stop_token_ids) for _, sampling in Engine.asked} == {(tokenizer.eos_token_id,)}
    assert generator.engine_args["load_format"] == "safetensors"
    assert "load_format" not in replace(generator, allow_pickled_weights=True).engine_args
    assert {sampling.seed for _, sampling in Engine.asked} == {request.seed for request in requests(one)}
