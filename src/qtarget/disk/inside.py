"""Whether a name that a file gives stays in the folder that the file is in."""

from pathlib import PurePosixPath, PureWindowsPath


def leads_outside(name: str) -> bool:
    """Whether a name means a place outside of the folder that it is looked up in, on any system; or an address."""
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    return bool(PureWindowsPath(name).anchor) or ".." in parts or "://" in name or "::" in name
