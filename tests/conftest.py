"""One thread a process: the suite runs in parallel processes, and small tensors gain nothing from more."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

torch.set_num_threads(1)

ONE_WORKER = (
    "benchmarks/test_speed.py",
    "benchmarks/test_teacher_caches.py",
    "evaluate/run/test_run.py",
    "house/test_fresh.py",
    "recipes/test_dry_run.py",
    "study/test_demo.py",
    "study/test_miniature.py",
    "teacher/test_served.py",
    "teacher/test_served_run.py",
    "train/test_two_ranks.py",
)
"""Files whose tests share a fixture that takes long: processes, servers, whole runs. Under `--dist loadgroup`, as
`make test` says it, one worker has all tests of such a file, and makes the fixture once instead of once a worker."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tests = Path(__file__).parent
    for item in items:
        if (file := item.path.relative_to(tests).as_posix()) in ONE_WORKER:
            item.add_marker(pytest.mark.xdist_group(file))
