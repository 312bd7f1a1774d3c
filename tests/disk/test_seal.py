"""A sealed folder tells whether it is whole: every file that is cut, flipped, swapped, removed or added is named."""

import os
from pathlib import Path

import pytest

from qtarget.disk import seal as seal_module
from qtarget.disk.seal import SEAL, damage, read_seal, seal

FILES = {
    "model.safetensors": b"w" * 1000,
    "optimizer.pt": b"o" * 500,
    "inner/rng_state.pth": b"r" * 10,
    "empty.txt": b"",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    seal(tmp_path, {"step": 7, "identity": {"seed": 1}})
    return tmp_path


def test_a_whole_folder_has_no_damage_and_remembers_its_facts(folder: Path):
    sealed = read_seal(folder)
    assert set(sealed.files) == set(FILES)
    assert sealed.bytes == 1510
    assert sealed.facts == {"step": 7, "identity": {"seed": 1}}
    assert damage(folder, sealed) == []


@pytest.mark.failure_case(2)
@pytest.mark.parametrize("name", [name for name, content in FILES.items() if content])
@pytest.mark.parametrize("how", ["flipped", "cut", "removed", "swapped"])
def test_a_damaged_file_is_named(folder: Path, name: str, how: str):
    path = folder / name
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(content[:-1])
    elif how == "removed":
        path.unlink()
    else:
        path.write_bytes(b"x" * len(content))
    (sentence,) = damage(folder, read_seal(folder))
    assert name in sentence


def test_a_file_that_was_added_is_named(folder: Path):
    (folder / "adapter_model.safetensors").write_bytes(b"a")
    (sentence,) = damage(folder, read_seal(folder))
    assert "adapter_model.safetensors was added" in sentence


def test_a_folder_without_a_manifest_was_never_finished(folder: Path):
    (folder / SEAL).unlink()
    with pytest.raises(ValueError, match="was never finished"):
        read_seal(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"files": 3, "facts": {}}', b'{"files": {"a": {}}}'])
def test_a_damaged_manifest_is_named(folder: Path, content: bytes):
    (folder / SEAL).write_bytes(content)
    with pytest.raises(ValueError, match=SEAL):
        read_seal(folder)


def test_a_process_that_dies_while_sealing_leaves_no_manifest(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def die(path: Path) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(seal_module, "file_digest", die)
    with pytest.raises(OSError, match="disk full"):
        seal(folder, {})
    assert not (folder / SEAL).exists()


def test_unfinished_files_of_a_killed_writer_are_no_part(folder: Path):
    (folder / f".state.json.{os.getpid()}-1.draft").write_bytes(b"half")
    assert damage(folder, read_seal(folder)) == []
