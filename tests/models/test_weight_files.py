"""No weights are read from a pickle, or from outside of a model's folder, whatever it or an argument says."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models
import torch
from job.directories import model_directory
from safetensors.torch import load_file, save_file

from qtarget.disk.seal import seal
from qtarget.evaluate.generators.huggingface import HuggingFace
from qtarget.lab.checkpoints import load
from qtarget.models.gguf_file import checkpoint_folder
from qtarget.models.loading import causal_lm_from
from qtarget.models.pickled_weights import refuse_pickled_checkpoint, refuse_pickled_weights
from qtarget.teacher.served.model import load_served_model
from qtarget.teacher.served.wire import Limits
from qtarget.train import TargetSFTConfig
from qtarget.train.open_student import open_student

ALLOWED = {"allow_pickled_weights": True}


@pytest.fixture
def folder(tmp_path) -> Path:
    return Path(model_directory(tmp_path / "model"))


def pickle_of(folder: Path, name: str = "pytorch_model.bin") -> None:
    """The weights of a folder as a pickle, and a file of safetensors beside it that no loader reads."""
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / name)
    (folder / "model.safetensors").unlink()
    save_file({"x": torch.zeros(1)}, folder / "decoy.safetensors")


def index(folder: Path, name: str, part: str) -> None:
    names = tiny_models.tiny_model("llama").state_dict()
    content = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, part)}
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def configure(folder: Path, **fields) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **fields}), encoding="utf-8")


def moved(folder: Path) -> None:
    """The weights beside the folder."""
    shutil.move(folder / "model.safetensors", folder.parent / "elsewhere.safetensors")


def as_student(folder: Path) -> None:
    open_student(str(folder), None, TargetSFTConfig(method="sft", output_dir=str(folder / "out"), use_cpu=True), None)


OPENED: dict[str, Callable[[Path], object]] = {
    "student": as_student,
    "teacher": lambda folder: causal_lm_from(str(folder), {}),
    "server": lambda folder: load_served_model(str(folder), "float32", Limits()),
    "evaluation": lambda folder: HuggingFace(str(folder)).network,
    "lab": load,
}


@pytest.mark.parametrize("opened", OPENED)
def test_a_pickle_is_refused_by_whatever_name_it_would_be_read(folder, opened):
    pickle_of(folder)
    with pytest.raises(ValueError, match=r"pytorch_model.bin is a pickle.*allow_pickled_weights"):
        OPENED[opened](folder)
    index(folder, "x.safetensors.index.json", "pytorch_model.bin")
    for name in ("x.safetensors.index.json", "adapter_model.bin"):
        for fields in ({"transformers_weights": name}, {"text_config": {"transformers_weights": name}}):
            configure(folder, **fields)
            with pytest.raises(ValueError, match=r"is a pickle"):
                OPENED[opened](folder)


@pytest.mark.parametrize("opened", OPENED)
def test_nothing_leads_out_of_the_folder(folder, opened):
    moved(folder)
    for name in ("x.safetensors.index.json", "pytorch_model.bin.index.json", "model.safetensors.index.v.json"):
        index(folder, name, "../elsewhere.safetensors")
        configure(folder, transformers_weights="x.safetensors.index.json")
        with pytest.raises(ValueError, match=rf"{re.escape(name)} names '../elsewhere.safetensors', which is no file"):
            OPENED[opened](folder)
        (folder / name).unlink()
    configure(folder, transformers_weights="../elsewhere.safetensors")
    with pytest.raises(ValueError, match=r"config.json \(transformers_weights\) names '../elsewhere.safetensors'"):
        OPENED[opened](folder)


@pytest.mark.parametrize("base", [".", "../second"])
@pytest.mark.parametrize("opened", [each for each in OPENED if each != "lab"])
def test_adapters_on_themselves_are_refused_with_the_field_to_write(folder, opened, base):
    for each in (folder, folder.parent / "second"):
        each.mkdir(exist_ok=True)
        on = folder / base if each == folder else folder
        content = {"peft_type": "LORA", "base_model_name_or_path": str(on), "task_type": "CAUSAL_LM"}
        (each / "adapter_config.json").write_text(json.dumps(content), encoding="utf-8")
        save_file({"x": torch.zeros(1)}, each / "adapter_model.safetensors")
    with pytest.raises(
        ValueError, match=r"adapter_config.json names .* as base_model_name_or_path, which .*; write there"
    ):
        OPENED[opened](folder)


def test_arguments_that_would_read_a_pickle_are_refused(folder):
    shutil.copytree(folder, folder / "sub")
    pickle_of(folder / "sub")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.v.bin")
    causal_lm_from(str(folder), {})
    for given, told in (
        ({"variant": "v"}, r"pytorch_model.v.bin is a pickle"),
        ({"subfolder": "sub"}, r"sub.pytorch_model.bin is a pickle"),
        ({"use_safetensors": False}, r"`use_safetensors: false` .* asks for weights that are a pickle"),
        ({"weights_only": False}, r"`weights_only: False` .* would run what a pickle says"),
        ({"config": str(folder)}, r"config among the arguments .* name the folder that holds the model"),
        ({"adapter_kwargs": {"subfolder": "sub"}}, r"adapter_kwargs.subfolder among the arguments"),
    ):
        with pytest.raises(ValueError, match=told):
            causal_lm_from(str(folder), given)
    causal_lm_from(str(folder), {"subfolder": "sub", **ALLOWED})
    causal_lm_from(str(folder), {"variant": "v", "use_safetensors": False, **ALLOWED})


def test_the_subfolder_that_is_loaded_is_looked_at(folder):
    inside = Path(shutil.copytree(folder, folder / "sub"))
    seal(inside, {"kind": "result"})
    causal_lm_from(str(folder), {"subfolder": "sub"})
    configure(inside, rope_theta=3.0)
    with pytest.raises(ValueError, match=r"sub is damaged: config.json"):
        causal_lm_from(str(folder), {"subfolder": "sub"})
    (inside / "manifest.json").unlink()
    index(inside, "model.safetensors.index.json", "../model.safetensors")
    with pytest.raises(ValueError, match=r"names '../model.safetensors'"):
        causal_lm_from(str(folder), {"subfolder": "sub"})


def test_folders_as_the_hub_has_them_are_let_through(folder):
    """Both formats side by side, each with an index."""
    for kind, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index(folder, f"{kind}.{suffix}.index.json", f"{kind}-00001-of-00002.{suffix}")
        (folder / f"{kind}-00001-of-00002.{suffix}").touch()
    checkpoint_folder(str(folder))
    refuse_pickled_weights(str(folder))


def test_a_checkpoint_is_refused_of_which_the_trainer_would_read_a_pickle(folder):
    refuse_pickled_checkpoint(folder, "LINE")
    adapter = folder / "frozen"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}", encoding="utf-8")
    (adapter / "adapter_model.bin").touch()
    with pytest.raises(ValueError, match=r"frozen.adapter_model.bin is a pickle.*write LINE"):
        refuse_pickled_checkpoint(folder, "LINE")
    shutil.rmtree(adapter)
    pickle_of(folder)
    index(folder, "model.safetensors.index.json", "decoy.safetensors")
    with pytest.raises(ValueError, match=r"pytorch_model.bin is a pickle"):
        refuse_pickled_checkpoint(folder, "LINE")


def test_an_adapter_on_the_hub_is_looked_at(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = tmp_path / "models--someone--adapter"
    inside = root / "snapshots" / commit
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    inside.mkdir(parents=True)
    (inside / "adapter_config.json").write_text("{}")
    (inside / "adapter_model.bin").touch()
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"adapter_model.bin is a pickle"):
        refuse_pickled_weights("someone/adapter")
    (inside / "adapter_model.safetensors").touch()
    refuse_pickled_weights("someone/adapter")
