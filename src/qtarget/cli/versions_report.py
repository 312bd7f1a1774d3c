"""`qtarget --version`: what a report of a fault has to say of the machine."""

import platform
from importlib.metadata import PackageNotFoundError, version

import typer

from qtarget.console import SafeConsole

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")


def print_versions(asked: bool) -> None:
    """Print our version and those of the libraries beneath, without importing one, and end the command."""
    if not asked:
        return
    console = SafeConsole(soft_wrap=True)
    for name in ("qtarget", *PACKAGES):
        console.print(f"{name} {_version(name)}")
    console.print(f"python {platform.python_version()}, {platform.system()} {platform.machine()}")
    raise typer.Exit


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"
