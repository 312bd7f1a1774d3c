"""What an installation gets: type hints, the lab's models, the recipes' files."""

import fnmatch
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from house.package import ROOT, SRC

FILES = sorted(path for path in SRC.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def test_type_checkers_may_read_the_package():
    assert (SRC / "py.typed").is_file()


def test_the_wheel_is_the_packages_folder():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["src/qtarget"]}


def test_nothing_of_the_package_is_left_out_as_ignored():
    """Hatchling leaves out what .gitignore names: a room called `runs` or `build` would not be installed."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    parts = {part for path in FILES for part in path.relative_to(SRC).parts}
    assert {part for part in parts for line in lines if fnmatch.fnmatch(part, line.strip("/"))} == set()


@pytest.mark.skipif(not find_spec("hatchling"), reason="hatchling builds the wheel; pip brings it where it builds one")
def test_a_wheel_holds_every_file(tmp_path: Path):
    build = f"import hatchling.build; hatchling.build.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], check=True, cwd=ROOT, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    assert {path.relative_to(SRC.parent).as_posix() for path in FILES} <= names
