"""Without a network, a home, a place for caches and a plain path: a run trains all the same, or says what to set."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from job.command import run as command
from job.stopped import ended
from reliability.artefacts import FULL, user_home

pytestmark = pytest.mark.failure_case(26)


class Alone(NamedTuple):
    """A process whose home cannot be made, and that reaches no other."""

    home: str = "/proc/nowhere"

    def install(self) -> None:
        os.environ["HOME"] = self.home
        for name in ("HF_HOME", "XDG_CACHE_HOME", "HF_HUB_OFFLINE"):
            os.environ.pop(name, None)
        sys.addaudithook(self._hook)

    def _hook(self, name: str, arguments: tuple) -> None:
        if name in ("socket.connect", "socket.getaddrinfo"):
            raise OSError(f"{name} {arguments[1:]}: there is no network")


@pytest.mark.skipif(os.name != "posix", reason="has a home that cannot be made")
def test_a_run_without_network_and_home_in_a_folder_with_spaces_and_signs(tmp_path, monkeypatch):
    folder = tmp_path / "mein Ordner η"
    folder.mkdir()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "rows")
    monkeypatch.chdir(user_home(folder))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "rows")
    said = ended([*FULL, "--max-steps", "1"], Alone(), folder=tmp_path)
    assert said.code == 0, said.err
    assert (folder / "out" / "model.safetensors").is_file()


@pytest.mark.skipif(os.name != "posix", reason="has a place that cannot be written to")
def test_a_cache_that_cannot_be_written_to_is_said_with_what_to_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / ".cache")
    monkeypatch.chdir(user_home(tmp_path))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", Path("/proc/nowhere/datasets"))
    said = command(capsys, *FULL)
    assert said.code == 2
    assert "`HF_DATASETS_CACHE=/proc/nowhere/datasets` cannot be written to" in said.err
    assert not (tmp_path / "out").exists()
