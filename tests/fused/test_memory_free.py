"""Free memory as a machine says it, and as the control groups of a container or a batch job cut it down."""

from pathlib import Path

import pytest
import torch

from qtarget.fused import memory
from qtarget.fused.memory import free_bytes

GIB = 2**30
CPU = torch.device("cpu")


def _tree(root: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(memory, "PROC", root / "proc")
    monkeypatch.setattr(memory, "SYS", root / "sys")


MEMINFO = {"proc/meminfo": f"MemTotal: 999 kB\nMemAvailable: {64 * GIB // 1024} kB\n"}


def _group(place: str, limit: object, used: int, version: int = 2, inactive: int | None = None) -> dict[str, str]:
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    files = dict(zip(names, (f"{limit}\n", f"{used}\n"), strict=True))
    if inactive is not None:
        files["memory.stat"] = f"anon 7\n{'' if version == 2 else 'total_'}inactive_file {inactive}\nslab 3\n"
    root = "sys/fs/cgroup" if version == 2 else "sys/fs/cgroup/memory"
    return {f"{root}/{place}/{name}": text for name, text in files.items()}


TREES = {
    "no groups": ({}, 64),
    "no limit": ({"proc/self/cgroup": "0::/job\n", **_group("job", "max", GIB)}, 64),
    "a limit": ({"proc/self/cgroup": "0::/job\n", **_group("job", 8 * GIB, 3 * GIB)}, 5),
    "a limit above the machine's": ({"proc/self/cgroup": "0::/job\n", **_group("job", 900 * GIB, 3 * GIB)}, 64),
    "use beyond the limit": ({"proc/self/cgroup": "0::/job\n", **_group("job", 2 * GIB, 3 * GIB)}, 0),
    "a parent's limit": (
        {"proc/self/cgroup": "0::/pod/job\n", **_group("pod", 10 * GIB, 6 * GIB), **_group("pod/job", "max", GIB)},
        4,
    ),
    "another's limit": ({"proc/self/cgroup": "0::/pod/job\n", **_group("pod/other", GIB, 0)}, 64),
    "the root of a container": ({"proc/self/cgroup": "0::/../host/path\n", **_group("", 8 * GIB, 2 * GIB)}, 6),
    "cached files": ({"proc/self/cgroup": "0::/\n", **_group("", 8 * GIB, 7 * GIB, inactive=2 * GIB)}, 3),
    "version 1": (
        {
            "proc/self/cgroup": "12:cpu,cpuacct:/x\n5:memory:/docker/abc\n0::/\n",
            **_group("", 16 * GIB, GIB, version=1),
            **_group("docker/abc", 8 * GIB, 7 * GIB, version=1, inactive=GIB),
        },
        2,
    ),
    "version 1 without a limit": (
        {"proc/self/cgroup": "5:memory:/\n", **_group("", 9223372036854771712, GIB, version=1)},
        64,
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_the_least_of_machine_and_control_groups(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    files, gib = TREES[name]
    _tree(tmp_path, {**MEMINFO, **files}, monkeypatch)
    assert free_bytes(CPU) == gib * GIB


def test_nothing_is_known_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _tree(tmp_path, {}, monkeypatch)
    assert free_bytes(CPU) is None
    assert free_bytes(torch.device("mps")) is None


def test_a_limit_is_known_where_the_machine_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _tree(tmp_path, {"proc/self/cgroup": "0::/\n", **_group("", 2 * GIB, GIB)}, monkeypatch)
    assert free_bytes(CPU) == GIB
