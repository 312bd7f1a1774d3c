"""A folder of a test's own in which the commands that run for long are quick."""

from pathlib import Path

import datasets
import pytest
from reliability.commands import TINY_STUDY, make_workplace


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / ".cache")
    monkeypatch.setattr("qtarget.study.tuned.run_study.QUICK", TINY_STUDY)
    make_workplace(tmp_path)
    return tmp_path
