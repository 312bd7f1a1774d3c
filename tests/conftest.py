"""One thread a process: the suite runs in parallel processes, and small tensors gain nothing from more."""

import gc
import json
import os
import random
import zlib
from collections.abc import Callable, Generator
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
if not os.environ.get(
    "QTARGET_GPU"
):  # most tests compare to the bit, and fork: `make test-gpu` runs those that need not
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pytest
import torch
from filelock import FileLock

torch.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected lives to the end: the garbage collector, which every training run calls, and with
    it every process that a test forks, need not look at it again.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Numbers that a test draws are its own: they do not hang on which tests its worker ran before."""
    _draw_anew(item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
    """So are those that a fixture of several tests draws, whichever of them comes first."""
    if fixturedef.scope == "function":
        return (yield)
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    _draw_anew(f"{fixturedef.baseid}::{fixturedef.argname}")
    try:
        return (yield)
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])


def _draw_anew(name: str) -> None:
    seed = zlib.crc32(name.encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (what others draw)
    torch.manual_seed(seed)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[], Any]], Any]:
    """`once(name, make)`: what `make` gives, in JSON's types. Of the workers of a parallel run one makes it, and the
    others wait and read it: a fixture that starts processes is otherwise made by each of them.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return lambda name, make: make()
    folder = tmp_path_factory.getbasetemp().parent  # all workers' own

    def shared(name: str, make: Callable[[], Any]) -> Any:
        file = folder / f"{name}.json"
        with FileLock(f"{file}.lock"):
            if not file.exists():
                file.write_text(json.dumps(make()), encoding="utf-8")
        return json.loads(file.read_text(encoding="utf-8"))

    return shared


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their number: their order may differ between the workers of a parallel run (safetensors writes
    its metadata in no order), which then would not agree on the tests that there are.
    """
    return f"{argname} of {len(val)} bytes" if isinstance(val, bytes) else None
