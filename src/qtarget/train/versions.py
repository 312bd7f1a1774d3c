"""The versions of torch, transformers, TRL, … that the trainer is tested with; others are refused at import."""

from collections.abc import Callable
from importlib import metadata

try:
    from packaging.specifiers import SpecifierSet
except ModuleNotFoundError as error:  # it comes with the libraries of the extra
    raise ImportError("qtarget.train needs TRL and what belongs to it. Write: pip install 'qtarget[train]'") from error

RANGES = {
    "torch": ">=2.6",
    "accelerate": ">=1.12",
    "datasets": ">=5.0",
    "peft": ">=0.21",
    "transformers": ">=5.10.4,<5.24",
    "trl": ">=1.15,<1.17",
}
"""As in pyproject.toml. Both ends of TRL and transformers are tested, so a newer release is refused until it is."""


def check_versions(installed: Callable[[str], str] = metadata.version) -> None:
    """Refuse libraries outside the tested ranges.

    Args:
        installed: the version of a distribution by its name.

    Raises:
        ImportError: names what is installed, the range and the pip line.
    """
    versions = {name: _version(name, installed) for name in RANGES}
    wrong = [name for name, version in versions.items() if version is None or not _fits(name, version)]
    if not wrong:
        return
    given = ", ".join(f"{name} {versions[name]}" if versions[name] else f"no {name}" for name in wrong)
    ranges = [f"{name}{RANGES[name]}" for name in wrong]
    pip = " ".join(f"'{each}'" for each in ranges)
    raise ImportError(
        f"Found {given}; qtarget.train is tested with {' and '.join(ranges)}. The trainer leans on parts of TRL and "
        f"transformers that move between releases. Write: pip install {pip}"
    )


def _version(name: str, installed: Callable[[str], str]) -> str | None:
    try:
        return installed(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(name: str, version: str) -> bool:
    return SpecifierSet(RANGES[name]).contains(version, prereleases=True)
