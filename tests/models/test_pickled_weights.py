"""Weights that are a pickle are read where that was asked for, and never run."""

import json
import shutil
from dataclasses import replace

import pytest
import tiny_models
import torch
from models.planted import runs, torch_file
from typer.main import get_command

from qtarget.cli.main import app
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.run.prepare import generator_of
from qtarget.models.loading import causal_lm_from
from qtarget.models.pickled_weights import refuse_pickled_weights
from qtarget.teacher.served.model import load_served_model
from qtarget.teacher.served.wire import Limits


@pytest.fixture
def folder(tmp_path):
    """A model whose weights are a pickle, as earlier versions of transformers wrote them."""
    model = tiny_models.tiny_model()
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    return tmp_path / "model"


def test_they_are_refused_with_the_lines_to_write(folder):
    with pytest.raises(ValueError, match=r"(?s)pytorch_model.bin is a pickle.*save_pretrained.*allow_pickled_weights"):
        causal_lm_from(str(folder), {})


def test_they_are_read_where_that_is_asked_for(folder):
    found = causal_lm_from(str(folder), {"allow_pickled_weights": True}).state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in tiny_models.tiny_model().state_dict().items())


@pytest.mark.failure_case(20)
@pytest.mark.parametrize("allowed", [False, True])
def test_planted_code_is_not_run(folder, tmp_path, allowed):
    marker = tmp_path / "marker"
    assert runs(torch_file(marker, folder / "pytorch_model.bin"), marker)
    for name in ("pytorch_model.bin", "pytorch_model-00001-of-00002.bin"):
        (folder / "pytorch_model.bin").exists() and (folder / "pytorch_model.bin").rename(folder / name)
        said = rf"{name} is a pickle that holds more than numbers \(it names" if allowed else f"{name} is a pickle"
        with pytest.raises(ValueError, match=said):
            causal_lm_from(str(folder), {"allow_pickled_weights": allowed})
    assert not marker.exists()


def test_a_damaged_pickle_is_named(folder):
    path = folder / "pytorch_model.bin"
    for content in (b"", path.read_bytes()[:-50], b"no pickle"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"pytorch_model.bin is .*; take the weights from where they came"):
            causal_lm_from(str(folder), {"allow_pickled_weights": True})


@pytest.mark.failure_case(20)
def test_planted_code_in_an_adapter_is_not_run(folder, tmp_path):
    adapter, marker = tmp_path / "adapter", tmp_path / "marker"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}), encoding="utf-8")
    torch_file(marker, adapter / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"adapter_model.bin is a pickle that holds more than numbers"):
        causal_lm_from(str(adapter), {"allow_pickled_weights": True})
    assert not marker.exists()


def test_an_index_of_safetensors_that_names_a_pickle_is_refused(folder):
    shutil.move(folder / "pytorch_model.bin", folder / "part.bin")
    index = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": "part.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ValueError, match=r"part.bin is a pickle"):
        causal_lm_from(str(folder), {})


def test_an_adapter_and_its_base_are_looked_at(folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder)}), encoding="utf-8")
    torch.save({}, adapter / "adapter_model.bin")
    with pytest.raises(ValueError, match=r"adapter_model.bin is a pickle.*save_file"):
        refuse_pickled_weights(str(adapter))
    (adapter / "adapter_model.safetensors").touch()
    with pytest.raises(ValueError, match=r"pytorch_model.bin is a pickle"):
        refuse_pickled_weights(str(adapter))


def test_a_checkpoint_with_safetensors_is_let_through(tmp_path):
    tiny_models.tiny_model().save_pretrained(tmp_path)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        (tmp_path / name).touch()
    refuse_pickled_weights(str(tmp_path))


def test_an_evaluation_names_the_flag_that_it_has(folder, tmp_path):
    tiny_models.tiny_tokenizer().save_pretrained(folder)
    plan = EvaluationPlan(str(folder), ("lab-weak",), tmp_path / "out")
    with pytest.raises(ValueError, match="`--allow-pickled-weights` behind the command"):
        generator_of(plan)
    generator = generator_of(replace(plan, allow_pickled_weights=True))
    assert isinstance(generator, HuggingFace)
    assert generator.network.get_output_embeddings() is not None


def test_a_served_teacher_reads_them_where_that_is_asked_for(folder):
    tiny_models.tiny_tokenizer().save_pretrained(folder)
    with pytest.raises(ValueError, match="`--allow-pickled-weights` behind the command"):
        load_served_model(str(folder), "float32", Limits())
    assert load_served_model(str(folder), "float32", Limits(), allow_pickled_weights=True).live is not None


@pytest.mark.parametrize("words", [("eval",), ("teacher", "serve")])
def test_the_flag_is_one_of_the_command(words):
    command = get_command(app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    assert "--allow-pickled-weights" in {option for parameter in command.params for option in parameter.opts}
