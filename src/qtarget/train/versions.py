"""The versions of torch, transformers, TRL, … that the trainer is tested with: older ones are refused at import, newer
ones are let in with a warning."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import NamedTuple

from packaging.version import Version

from qtarget.outcomes import missing_library


class VersionRange(NamedTuple):
    """The oldest release that is let in, and the newest minor release that was tested: its patches count as it."""

    oldest: str
    newest: str

    @property
    def requirement(self) -> str:
        """As pip takes it: from the oldest up to, not including, the first minor release that was not tested."""
        *major, minor = Version(self.newest).release
        return f">={self.oldest},<{'.'.join(map(str, (*major, minor + 1)))}"

    def is_older(self, version: str) -> bool:
        return Version(version) < Version(self.oldest)

    def is_newer(self, version: str) -> bool:
        newest = Version(self.newest).release
        return Version(version).release[: len(newest)] > newest


TESTED = {
    "torch": VersionRange("2.6", "2.13"),
    "accelerate": VersionRange("1.12", "1.15"),
    "datasets": VersionRange("5.0", "5.2"),
    "peft": VersionRange("0.21", "0.21"),
    "transformers": VersionRange("5.10.4", "5.24"),
    "trl": VersionRange("1.15", "1.16"),
}
"""The oldest of each is as in pyproject.toml, which sets no newest."""

PRIVATE = ("transformers", "trl")
"""Libraries of which the trainer leans on private parts (`train/trl_private.py`)."""


class UntestedVersionWarning(UserWarning):
    """A library is newer than those that `qtarget.train` was tested with."""


def check_versions(installed: Callable[[str], str] = metadata.version) -> None:
    """Refuse libraries that are missing or too old, and warn, once, of those that are newer than what was tested.

    Args:
        installed: the version of a distribution by its name.

    Raises:
        ImportError: names what is installed, what is tested and the pip line.
    """
    versions = {name: _version(name, installed) for name in TESTED}
    wrong = [name for name, version in versions.items() if version is None or TESTED[name].is_older(version)]
    if wrong:
        raise ImportError(f"{_found(wrong, versions)}. Write: {_pip(wrong)}")
    newer = [name for name, version in versions.items() if version is not None and TESTED[name].is_newer(version)]
    if newer:
        warnings.warn(
            f"{_found(newer, versions)}. It goes on: what the trainer leans on is tried when one is built. Should "
            f"something fail that worked before, write: {_pip(newer)}",
            UntestedVersionWarning,
            stacklevel=2,
        )


def moved(parts: Sequence[str], installed: Callable[[str], str] = metadata.version) -> ImportError:
    """The error for private parts of TRL and transformers that are not as the trainer knows them.

    Args:
        parts: what is wrong with each, as in "SFTTrainer._prepare_dataset is gone".
        installed: as for `check_versions`.
    """
    versions = {name: _version(name, installed) for name in PRIVATE}
    return ImportError(
        f"{_found(PRIVATE, versions)}. The trainer leans on parts of them that move between releases, and these moved: "
        f"{'; '.join(parts)}. Write: {_pip(PRIVATE)}"
    )


@contextmanager
def known_parts() -> Iterator[None]:
    """A context for imports from TRL and transformers.

    Raises:
        ImportError: `moved`, in the place of any error of theirs about a name that is not where it was.
    """
    try:
        yield
    except (ImportError, AttributeError, RuntimeError) as error:
        if missing_library(error) is not None:
            raise
        raise moved([str(error)]) from error


def _found(names: Sequence[str], versions: dict[str, str | None]) -> str:
    given = ", ".join(f"{name} {versions[name]}" if versions[name] else f"no {name}" for name in names)
    tested = " and ".join(f"{name} {TESTED[name].oldest} to {TESTED[name].newest}" for name in names)
    return f"Found {given}; qtarget.train is tested with {tested}"


def _pip(names: Sequence[str]) -> str:
    return "pip install " + " ".join(f"'{name}{TESTED[name].requirement}'" for name in names)


def _version(name: str, installed: Callable[[str], str]) -> str | None:
    try:
        return installed(name)
    except metadata.PackageNotFoundError:
        return None
