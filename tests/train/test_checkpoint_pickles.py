"""A pickle that was planted in a checkpoint is never run, and none of ours is written."""

import pickle

import pytest
import tiny_models
import torch
import torch.distributed.checkpoint as dcp
from models.planted import CreatesFile, plain_file, runs, torch_file
from train import parity

from qtarget.disk.seal import SEAL
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.checkpoint_files.checkpoint_pickles import check_checkpoint_pickles


def trainer(folder, **changes):
    given = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "output_dir": str(folder), **changes}
    return TargetSFTTrainer(
        tiny_models.tiny_model(),
        TargetSFTConfig(method="sft", **parity.common_args(**given)),
        train_dataset=tiny_models.prompt_completion(4),
        processing_class=tiny_models.tiny_tokenizer(),
    )


@pytest.mark.failure_case(20)
def test_pickles_in_a_checkpoint_are_torchs_states_alone_and_planted_ones_are_not_run(tmp_path):
    first = trainer(tmp_path / "out", max_steps=1, hub_token="hf_planted")
    first.train()
    first.save_model(str(tmp_path / "out" / "result"))
    checkpoint, marker = tmp_path / "out" / "checkpoint-1", tmp_path / "marker"
    kinds = ("*.bin", "*.pt", "*.pth", "*.pkl")
    pickles = {path.name for kind in kinds for path in (tmp_path / "out").rglob(kind)}
    assert pickles == {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    (checkpoint / SEAL).unlink()  # whoever plants a file can seal it too
    again = trainer(tmp_path / "out", resume_unsealed=True)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        whole = (checkpoint / name).read_bytes()
        assert runs(torch_file(marker, checkpoint / name), marker)
        with pytest.raises(ValueError, match=rf"{name} is a pickle .*it names (_?io|builtins)\.open.*resume from"):
            again.train(resume_from_checkpoint=str(checkpoint))
        assert not marker.exists()
        (checkpoint / name).write_bytes(whole)
    for name in ("training_args.bin", "log_window_0_of_1.pt", "pytorch_model.bin", "reference_snapshot.pt"):
        torch_file(marker, checkpoint / name)
    again.train(resume_from_checkpoint=str(checkpoint))
    assert not marker.exists()


@pytest.mark.failure_case(20)
def test_planted_weights_of_a_checkpoint_are_named_where_pickles_may_be_read(tmp_path):
    trainer(tmp_path / "out", max_steps=1).train()
    checkpoint, marker = tmp_path / "out" / "checkpoint-1", tmp_path / "marker"
    for name in (SEAL, "model.safetensors"):
        (checkpoint / name).unlink()
    torch_file(marker, checkpoint / "pytorch_model.bin")
    again = trainer(tmp_path / "out", resume_unsealed=True, allow_pickled_weights=True)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is a pickle .*it names (_?io|builtins)\.open"):
        again.train(resume_from_checkpoint=str(checkpoint))
    assert not marker.exists()


def test_the_files_hold_no_token_of_the_hub(tmp_path):
    """In `training_args.bin`, transformers writes it in clear."""
    secret = "hf_planted0123456789"
    made = trainer(tmp_path / "out", hub_token=secret, max_steps=1)
    made.train()
    made.save_model()
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) > 8
    assert [path.name for path in files if secret.encode() in path.read_bytes()] == []


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_distributed_checkpoint_is_looked_at_before_torch_reads_it(tmp_path):
    folder, marker = tmp_path / "pytorch_model_fsdp_0", tmp_path / "marker"
    state = {"model": {"a": torch.ones(3, dtype=torch.bfloat16)}, "lr": 0.1, "betas": (0.9, 0.99), "name": "adam"}
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)
    check_checkpoint_pickles(tmp_path)
    dcp.save({**state, "evil": CreatesFile(marker)}, storage_writer=dcp.FileSystemWriter(folder), no_dist=True)
    with pytest.raises(ValueError, match=r"\.metadata, or a file beside it, holds more than a checkpoint's numbers"):
        check_checkpoint_pickles(tmp_path)
    assert not marker.exists()
    assert runs(plain_file(marker, folder / ".metadata"), marker)
    with pytest.raises(ValueError, match=r"it names (_?io|builtins)\.open"):
        check_checkpoint_pickles(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["system", "os.system", "load", "hub.load", "_C._load"])
def test_what_could_run_code_is_not_reached_by_a_longer_way(tmp_path, name):
    for module in ("torch", "torch.distributed.checkpoint.metadata", "builtins", "os", "posix"):
        body = f"c{module}\n{name}\n.".encode()
        (tmp_path / ".metadata").write_bytes(body)
        with pytest.raises(ValueError, match=r"it names|Can.t get attribute"):
            check_checkpoint_pickles(tmp_path)


@pytest.mark.failure_case(19)
@pytest.mark.parametrize("way", ["up", "absolute"])
def test_metadata_that_leads_out_of_its_folder_is_refused(tmp_path, way):
    inside, outside = tmp_path / "checkpoint-2" / "pytorch_model_fsdp_0", tmp_path / "elsewhere"
    for folder in (inside, outside):
        dcp.save({"weights": torch.ones(3), "note": folder.name}, checkpoint_id=str(folder), no_dist=True)
    check_checkpoint_pickles(inside.parent)
    metadata, other = (pickle.loads((folder / ".metadata").read_bytes()) for folder in (inside, outside))
    for index, stored in metadata.storage_data.items():
        name = other.storage_data[index].relative_path
        stored.relative_path = f"../../elsewhere/{name}" if way == "up" else str(outside / name)
    (inside / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(ValueError, match=r"\.metadata, or a file beside it, .*is outside of the folder.*resume from"):
        check_checkpoint_pickles(inside.parent)
