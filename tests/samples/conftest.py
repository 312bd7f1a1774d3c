"""A folder in which samples are drawn, and rounds whose commands are run in this process."""

from pathlib import Path

import pytest
from samples.drawn import make_home
from search.conftest import in_this_process

from qtarget.samples import run_rounds


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    make_home(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_rounds, "run_qtarget", in_this_process)
    return tmp_path
