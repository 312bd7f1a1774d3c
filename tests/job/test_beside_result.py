"""A result's seal is of what its run wrote: what the user put beside it may be edited and removed."""

import shutil

import pytest
from job.command import run

from qtarget.disk.seal import damage, read_seal, seal
from qtarget.job.beside_result import beside_result, file_states
from qtarget.models.model_seal import refuse_damaged_model

ALONE = ("--teacher", "null", "--method", "sft", "--eta", "null", "--eval-dataset", "null", "--max-steps", "1")


def test_a_file_of_the_users_is_not_sealed(here, capsys):
    mine = ("eval/run.json", "notes.txt", "note[1].md", "my model/config.json", "results.csv", "my_eval.py", "x.pt")
    for name in mine:
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text("{}", encoding="utf-8")
    before = {path.name for path in here.iterdir()}
    said = run(capsys, "train", "config.yaml", *ALONE, "--output-dir", ".")
    assert said.code == 0, said.err
    sealed = read_seal(here)
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "metrics.json"} <= sealed.files.keys()
    assert {"training.png", "train.yaml", "trainer_state.json"} <= sealed.files.keys()
    assert [name for name in sealed.files if name.split("/")[0] in before] == []
    for name in mine[1:]:
        (here / name).write_text("mine", encoding="utf-8")
    shutil.rmtree(here / "eval")
    assert damage(here, sealed) == []
    refuse_damaged_model(str(here))
    (here / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model.safetensors has 0 bytes"):
        refuse_damaged_model(str(here))


FSDP = (
    "pytorch_model_fsdp.bin",
    "pytorch_model_fsdp_rank0.bin",
    "pytorch_model_fsdp_0/.metadata",
    "pytorch_model_fsdp_0/__0_0.distcp",
)
DEEPSPEED = (
    "global_step4/mp_rank_00_model_states.pt",
    "global_step4/zero_pp_rank_0_mp_rank_00_optim_states.pt",
    "latest",
    "zero_to_fp32.py",
)
STATES_OF_RANKS = (
    "optimizer.bin",
    "optimizer_0/__0_0.distcp",
    "optimizer_0_rank0.bin",
    "scheduler.bin",
    "random_states_0.pkl",
    "rng_state_0.pth",
)


def test_what_accelerate_and_deepspeed_write_is_of_the_result_and_no_model_is_loaded_from_states(tmp_path):
    """Names as their sources have them: fsdp_utils.save_fsdp_model, DeepSpeedEngine.save_checkpoint."""
    for name in (*FSDP, *DEEPSPEED, *STATES_OF_RANKS, "config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}", encoding="utf-8")
    assert beside_result(tmp_path, {}) == []
    seal(tmp_path, {})
    for name in (*DEEPSPEED, *STATES_OF_RANKS):
        (tmp_path / name).write_text("x", encoding="utf-8")
    refuse_damaged_model(str(tmp_path))
    (tmp_path / FSDP[-1]).write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match=r"pytorch_model_fsdp_0/__0_0.distcp has 1 bytes"):
        refuse_damaged_model(str(tmp_path))


def test_what_lay_there_before_is_of_the_result_if_it_is_read_with_it(tmp_path):
    mine = ("x.pt", "code.py", "optimizer_notes.txt", "latest", "extra.safetensors", "chat_template.jinja")
    for name in mine:
        (tmp_path / name).write_text("mine", encoding="utf-8")
    before = file_states(tmp_path)
    assert beside_result(tmp_path, before) == ["code.py", "latest", "optimizer_notes.txt", "x.pt"]
    (tmp_path / "config.json").write_text('{"auto_map": {}}', encoding="utf-8")
    assert beside_result(tmp_path, before) == ["latest", "optimizer_notes.txt", "x.pt"]
    (tmp_path / "x.pt").write_text("written anew", encoding="utf-8")
    assert "x.pt" not in beside_result(tmp_path, before)
