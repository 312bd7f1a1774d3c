"""Versions of the libraries beside those that were tested, and which extras are installed."""

import importlib
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from types import ModuleType

from qtarget.job.surroundings.observation import Observation

NEEDED = "train"
"""The extra without which the command line trains nothing."""
NOT_FOR_USERS = ("browser", "dev", "docs")
WHAT_FOR = {
    "train": "training, evaluation, the command line",
    "qlora": "load_in_4bit, load_in_8bit",
    "gguf": "models in GGUF files",
    "inspect": "reads what `qtarget compare --to inspect` writes",
    "reasoning-gym": "`qtarget eval --task reasoning-gym:NAME`",
    "search": "ranges in the space of `qtarget search`",
    "vllm": "`qtarget eval --generator vllm`",
}


def versions_found() -> Iterator[Observation]:
    """Python, qtarget, and every library of which versions were tested."""
    yield Observation("versions", "python", platform.python_version())
    yield Observation("versions", "qtarget", _version("qtarget") or "not installed as a package")
    tested = _tested()
    if tested is None:
        yield Observation(
            "versions", "packaging", "is not installed, so versions cannot be compared", "fails", _pip(NEEDED)
        )
        return
    for name, versions in tested.TESTED.items():
        yield _compared(name, versions)


def _compared(name: str, tested) -> Observation:
    version = _version(name)
    upgrade = f"pip install '{name}{tested.requirement}'"
    of = f"tested: {tested.oldest} to {tested.newest}"
    if version is None:
        return Observation("versions", name, f"is not installed; {of}", "fails", upgrade)
    if tested.is_older(version):
        return Observation("versions", name, f"{version} is too old; {of}", "fails", upgrade)
    if tested.is_newer(version):
        return Observation("versions", name, f"{version} is newer; {of}", "note", f"should something fail: {upgrade}")
    return Observation("versions", name, f"{version}; {of}")


def _tested() -> ModuleType | None:
    """The module with the versions that were tested. Its package refuses to be imported beside a library that is too
    old, and that module is there all the same."""
    name = "qtarget.train.versions"
    with suppress(ImportError, RuntimeError):
        return importlib.import_module(name)
    return sys.modules.get(name)


def extras_found() -> Iterator[Observation]:
    """Each extra, with what it is for, and what of it is missing or too old."""
    try:
        from packaging.requirements import Requirement

        requirements = [Requirement(line) for line in metadata.requires("qtarget") or ()]
        extras = metadata.metadata("qtarget").get_all("Provides-Extra") or []
    except (ImportError, metadata.PackageNotFoundError):
        return
    for extra in extras:
        if extra in NOT_FOR_USERS:
            continue
        mine = [each for each in requirements if each.marker is not None and each.marker.evaluate({"extra": extra})]
        lacking = [name for each in mine if (name := _lacking(each))]
        use = WHAT_FOR[extra]
        if not lacking:
            yield Observation("extras", extra, f"installed: {use}")
        else:
            state = "fails" if extra == NEEDED else "note"
            yield Observation("extras", extra, f"lacks {', '.join(lacking)}: {use}", state, _pip(extra))


def _lacking(requirement) -> str | None:
    """What is to be said of a requirement that is not met; None for one that is."""
    version = _version(requirement.name)
    if version is None:
        return requirement.name
    return None if requirement.specifier.contains(version, prereleases=True) else f"{requirement} ({version} is there)"


def _pip(extra: str) -> str:
    return f"pip install 'qtarget[{extra}]'"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
