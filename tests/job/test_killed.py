"""kill -9 and a full disk at every file event of a checkpoint's save: the run goes on to the same weights, or says why
not; nothing that is not whole is ever gone on from.

CI looks at some of the events. `QTARGET_CHAOS=1` looks at all.
"""

import errno
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import safetensors.torch
import torch
import transformers.modeling_utils
from job.directories import link_into
from job.stopped import ended
from safetensors.torch import load_file

from qtarget.train.resumption.whole_checkpoints import checkpoint_fault, last_checkpoint

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes")
TRAIN = ("train", "config.yaml", "--teacher", "null", "--method", "dft", "--eta", "null", "--eval-dataset", "null")
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
SOME = 5
"""Events that CI looks at, spread over all of them."""


class AtEvent(NamedTuple):
    """At the n-th file event of a checkpoint's save, the process is killed, or the disk is full from there on.

    Written by C++ and Rust, weights and optimizer have no events of their own: there a half-written file counts as one.
    """

    event: int
    fills_disk: bool = False
    record: Path | None = None

    def install(self) -> None:
        sys.addaudithook(self._hook)
        for owner, name, file in (
            (torch, "save", 1),
            (safetensors.torch, "save_file", 1),
            (transformers.modeling_utils, "safe_save_file", 1),
        ):
            setattr(owner, name, self._halving(getattr(owner, name), file))

    def _hook(self, name: str, arguments: tuple) -> None:
        if name in EVENTS and any("checkpoint-4" in str(each) for each in arguments[:2]) and _changes(name, arguments):
            self._happen(name, arguments[0])

    def _halving(self, function, file: int):
        def half(*args, **kwargs):
            function(*args, **kwargs)
            path = args[file] if len(args) > file else kwargs.get("filename") or kwargs.get("f")
            if isinstance(path, str | Path) and "checkpoint-4" in str(path):
                whole = Path(path).read_bytes()
                Path(path).write_bytes(whole[: len(whole) // 2])
                self._happen("half of", path)
                Path(path).write_bytes(whole)

        return half

    def _happen(self, name: str, path) -> None:
        counted = seen.setdefault(os.getpid(), [])
        counted.append(f"{name} {path}")
        if self.record is not None:
            with os.fdopen(os.open(self.record, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a") as record:
                record.write(f"{name} {path}\n")
        if len(counted) - 1 < self.event or self.record is not None:
            return
        if not self.fills_disk:
            os.kill(os.getpid(), signal.SIGKILL)
        if name in ("open", "os.mkdir", "half of"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


seen: dict[int, list[str]] = {}


def _changes(name: str, arguments: tuple) -> bool:
    """Whether an event changes something: of files that are opened only those opened for writing do."""
    if name != "open":
        return True
    mode, flags = arguments[1], arguments[2]
    return any(letter in str(mode or "") for letter in "wax+") or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))


@pytest.fixture(scope="module")
def uninterrupted(home, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    link_into(folder, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert ended(TRAIN, AtEvent(0, record=folder / "events"), folder=folder).code == 0
    return folder


def looked_at(folder: Path) -> list[int]:
    """Numbers of the events of a save: all, or some spread over all and the last."""
    total = len((folder / "events").read_text().splitlines())
    if os.environ.get("QTARGET_CHAOS"):
        return list(range(total))
    return sorted({round(place * (total - 1) / (SOME - 1)) for place in range(SOME)})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "out" / "model.safetensors")


@pytest.mark.failure_case(1)
def test_kill_9_at_any_event_of_a_save(uninterrupted, here):
    for event in looked_at(uninterrupted):
        shutil.rmtree(here / "out", ignore_errors=True)
        assert ended(TRAIN, AtEvent(event), folder=here).code == -signal.SIGKILL, event
        named = [here / "out" / name for name in ("checkpoint-2", "checkpoint-4") if (here / "out" / name).is_dir()]
        assert all(checkpoint_fault(folder) is None for folder in named), event
        resumed = ended([*TRAIN, "--resume-from-checkpoint"], folder=here)
        assert resumed.code == 0, (event, resumed.err)
        whole, again = weights(uninterrupted), weights(here)
        assert all(torch.equal(again[name], weight) for name, weight in whole.items()), event


@pytest.mark.failure_case(21)
def test_a_disk_that_is_full_at_any_event_of_a_save(uninterrupted, here):
    for event in looked_at(uninterrupted)[:-1]:
        shutil.rmtree(here / "out", ignore_errors=True)
        said = ended(TRAIN, AtEvent(event, fills_disk=True), folder=here)
        if said.code != 0:  # behind the last file nothing is written any more
            assert said.code == 75, (event, said.err)
            assert "out/checkpoint-4 could not be written, and nothing of it is kept" in said.err, (event, said.err)
            assert "The last whole checkpoint is out/checkpoint-2" in said.err
            assert "Traceback" not in said.err
            assert last_checkpoint(here / "out") == here / "out" / "checkpoint-2"


@pytest.mark.failure_case(21)
def test_a_run_goes_on_without_a_checkpoint_that_cannot_be_written(uninterrupted, here):
    said = ended([*TRAIN, "--on-save-error", "continue"], AtEvent(2, fills_disk=True), folder=here)
    assert said.code == 0, said.err
    assert "out/checkpoint-4 could not be written" in said.err
    assert "Training goes on." in said.err
    assert not (here / "out" / "checkpoint-4").exists()
    whole, again = weights(uninterrupted), weights(here)
    assert all(torch.equal(again[name], weight) for name, weight in whole.items())
