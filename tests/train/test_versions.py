"""Outside the tested versions the trainer says so when it is imported."""

import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from qtarget.train.versions import RANGES, check_versions

ROOT = Path(__file__).parents[2]
OLDEST = {"torch": "2.6.0", "accelerate": "1.12.0", "datasets": "5.0.0", "peft": "0.21.0"} | {
    "transformers": "5.10.4",
    "trl": "1.15.0",
}


def check(**versions):
    check_versions((OLDEST | versions).__getitem__)


def pins(file):
    lines = [line for line in (ROOT / file).read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==") for line in lines)


def test_the_ranges_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    stated = {required.name: required.specifier for required in map(Requirement, lines)}
    assert {name: stated[name] for name in RANGES} == {
        name: Requirement(name + span).specifier for name, span in RANGES.items()
    }


def test_both_ends_are_pinned_for_the_tests():
    newest, oldest = pins("constraints.txt"), pins("constraints-oldest.txt")
    check(**{name: newest[name] for name in RANGES})
    assert {name: oldest[name] for name in OLDEST if name != "torch"} | {"torch": "2.6.0"} == OLDEST


@pytest.mark.parametrize("version", ["1.15.0", "1.16.0", "1.16.3"])
def test_what_is_inside_passes(version):
    check(trl=version)


def test_a_build_of_torch_is_a_version_of_it():
    check(torch="2.13.0+cpu")


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("trl", "1.14.2"),
        ("trl", "1.15.0.dev0"),
        ("trl", "1.17.0.dev0"),
        ("trl", "1.17.0"),
        ("trl", "2.0.0"),
        ("transformers", "5.10.3"),
        ("transformers", "4.57.6"),
        ("transformers", "5.24.0"),
        ("peft", "0.20.0"),
        ("torch", "2.5.1"),
    ],
)
def test_what_is_outside_is_named_with_its_range(name, version):
    with pytest.raises(ImportError) as refused:
        check(**{name: version})
    message = str(refused.value)
    assert f"Found {name} {version};" in message
    assert message.endswith(f"pip install '{name}{RANGES[name]}'")


def test_everything_that_is_wrong_is_named_at_once():
    def installed(name):
        if name == "peft":
            raise metadata.PackageNotFoundError(name)
        return (OLDEST | {"trl": "1.7.0"})[name]

    with pytest.raises(ImportError, match=r"Found no peft, trl 1\.7\.0; .*pip install 'peft>=0.21' 'trl>=1.15,<1.17'"):
        check_versions(installed)


@pytest.mark.parametrize("version", ["1.14.2", "1.17.0"])
def test_importing_the_trainer_beside_another_trl_says_so(tmp_path, version):
    """Another release's metadata comes first on the path, as where that release is installed."""
    info = tmp_path / f"trl-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: trl\nVersion: {version}\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, "-c", "import qtarget.train.trl_private"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert run.stderr.splitlines()[-1].startswith(
        f"ImportError: Found trl {version}; qtarget.train is tested with trl>=1.15,<1.17."
    )


def test_importing_the_trainer_without_the_extra_says_how_to_install_it():
    """`packaging` is the first that would be missed."""
    code = "import sys; sys.modules['packaging'] = None; import qtarget.train"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("Write: pip install 'qtarget[train]'")
