"""A checkpoint takes the place of an earlier one in one step, and of nothing else."""

import sys
from pathlib import Path

import pytest
from train.test_trained_twice import trainer

from qtarget.train.checkpoint_files import checkpoint_writer
from qtarget.train.resumption.set_aside import UNFINISHED, bring_back_of_killed, place_aside
from qtarget.train.resumption.whole_checkpoints import refuse_taken_names


class Killed(BaseException):
    """The end of a process."""


@pytest.mark.failure_case(1)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names cannot be exchanged")
def test_at_no_time_is_neither_the_old_one_nor_the_new_one_there(tmp_path, monkeypatch):
    folder, draft = tmp_path / "checkpoint-2", tmp_path / ".unfinished" / "checkpoint-2"
    for each, content in ((folder, "old"), (draft, "new")):
        each.mkdir(parents=True)
        (each / "weights").write_text(content)
    rename = Path.replace

    def watched(self, target):
        renamed = rename(self, target)
        assert folder.is_dir()
        return renamed

    monkeypatch.setattr(Path, "replace", watched)
    checkpoint_writer._move(draft, folder)
    assert (folder / "weights").read_text() == "new"


@pytest.mark.failure_case(2)
@pytest.mark.parametrize(("is_link", "what"), [(False, "a file"), (True, "a link to nothing")])
def test_what_is_no_folder_and_has_the_name_of_a_checkpoint_is_left_alone(tmp_path, is_link, what):
    taken = tmp_path / "checkpoint-4"
    if is_link:
        taken.symlink_to(tmp_path / "nowhere")
    else:
        taken.write_text("mine")
    with pytest.raises(ValueError, match=f"checkpoint-4 is {what}, and a checkpoint of that name would take its place"):
        refuse_taken_names(tmp_path)
    (tmp_path / "checkpoint-4.kept").write_text("")
    taken.unlink()
    refuse_taken_names(tmp_path)


@pytest.mark.failure_case(2)
@pytest.mark.parametrize("name", ["README.md", "model.safetensors", "train.yaml", "manifest.json"])
def test_a_folder_with_the_name_of_a_file_of_the_result_is_refused_before_the_work(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"{name} is a folder, and a file of that name is a part of the result"):
        refuse_taken_names(tmp_path)


@pytest.mark.failure_case(1)
def test_a_checkpoint_whose_name_was_being_given_to_another_is_brought_back(tmp_path, monkeypatch):
    """Where names cannot be exchanged, a kill between the two renames leaves neither under the name."""
    monkeypatch.setattr(checkpoint_writer, "exchanged", lambda one, other: False)
    trainer(tmp_path).train()
    whole = (tmp_path / "checkpoint-4" / "model.safetensors").read_bytes()
    rename = Path.replace

    def killed(self, target):
        if Path(target).name == "checkpoint-4":
            raise Killed
        return rename(self, target)

    again = trainer(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        patch.setattr(checkpoint_writer.shutil, "rmtree", lambda *args, **kwargs: None)  # a kill tidies nothing up
        with pytest.raises(Killed):
            again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert not (tmp_path / "checkpoint-4").exists()
    resumed = trainer(tmp_path)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.sealed_run.start == tmp_path / "checkpoint-4"
    assert (tmp_path / "checkpoint-4" / "model.safetensors").read_bytes() == whole


@pytest.mark.failure_case(3)
def test_a_checkpoint_stays_where_another_cannot_take_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_writer, "exchanged", lambda one, other: False)
    folder, draft = tmp_path / "checkpoint-2", tmp_path / UNFINISHED / "checkpoint-2"
    folder.mkdir()
    draft.parent.mkdir()
    with pytest.raises(FileNotFoundError):
        checkpoint_writer._move(draft, folder)
    assert folder.is_dir()


@pytest.mark.failure_case(1)
def test_a_command_brings_it_back_before_it_looks_for_checkpoints(tmp_path):
    aside = place_aside(tmp_path / "checkpoint-2")
    aside.mkdir(parents=True)
    bring_back_of_killed(tmp_path)
    assert (tmp_path / "checkpoint-2").is_dir()
