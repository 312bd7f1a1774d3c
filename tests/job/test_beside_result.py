"""A result's seal is of what its run wrote: what the user put beside it may be edited and removed."""

import shutil

import pytest
from job.command import run

from qtarget.disk.seal import damage, read_seal
from qtarget.models.model_seal import refuse_damaged_model

ALONE = ("--teacher", "null", "--method", "sft", "--eta", "null", "--eval-dataset", "null", "--max-steps", "1")


def test_a_file_of_the_users_is_not_sealed(here, capsys):
    mine = ("eval/run.json", "notes.txt", "note[1].md", "my model/config.json", "results.csv")
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
