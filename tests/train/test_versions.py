"""Versions older than the tested ones are refused when the trainer is imported, newer ones let in with a warning."""

import os
import re
import subprocess
import sys
import tomllib
import warnings
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from qtarget.outcomes import needs_extra
from qtarget.train.versions import TESTED, UntestedVersionWarning, check_versions, known_parts

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OLDEST = {name: span.oldest for name, span in TESTED.items()}


def check(**versions):
    """What is said of newer versions."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_versions((OLDEST | versions).__getitem__)
    return [str(each.message) for each in caught if each.category is UntestedVersionWarning]


def pins(file):
    lines = [line for line in (ROOT / file).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def declared():
    """What the package needs to train, by name."""
    lines = [*PROJECT["dependencies"], *(line for extra in ("train", "qlora") for line in extras()[extra])]
    return {canonicalize_name(required.name): required.specifier for required in map(Requirement, lines)}


def extras():
    return PROJECT["optional-dependencies"]


def test_the_oldest_are_those_of_the_package():
    assert {name: str(declared()[name]) for name in TESTED} == {
        name: f">={span.oldest}" for name, span in TESTED.items()
    }


def test_nothing_that_may_work_is_shut_out():
    """A newer release is met with a warning, not with a bound: these libraries release every few weeks."""
    assert {
        name: str(span) for name, span in declared().items() if re.search("[<=!~](?!=)|==", str(span).lstrip(">="))
    } == {}


def test_both_ends_are_pinned_for_the_tests():
    """torch is one CPU build for both: its oldest is tried by the published workflows."""
    newest, oldest = pins("constraints.txt"), pins("constraints-oldest.txt")
    assert check(**{name: newest[name] for name in TESTED}) == []
    lows = {name: Version(str(span).removeprefix(">=")) for name, span in declared().items() if name != "torch"}
    assert {name: Version(oldest.get(name, newest[name])) for name in lows} == lows


@pytest.mark.parametrize("version", ["1.15.0", "1.16.0", "1.16.3"])
def test_what_is_inside_passes(version):
    assert check(trl=version) == []


def test_a_build_of_torch_is_a_version_of_it():
    assert check(torch="2.13.0+cpu") == []


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("trl", "1.14.2"),
        ("trl", "1.15.0.dev0"),
        ("transformers", "5.10.3"),
        ("transformers", "4.57.6"),
        ("peft", "0.20.0"),
        ("torch", "2.5.1"),
    ],
)
def test_what_is_older_is_refused_with_what_is_tested(name, version):
    with pytest.raises(ImportError) as refused:
        check(**{name: version})
    message = str(refused.value)
    assert f"Found {name} {version}; qtarget.train is tested with {name} {TESTED[name].oldest} to" in message
    assert message.endswith(f"pip install '{name}{TESTED[name].requirement}'")


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("trl", "1.17.0.dev0"),
        ("trl", "1.17.0"),
        ("trl", "2.0.0"),
        ("transformers", "5.25.0"),
        ("transformers", "6.0.0"),
        ("torch", "2.14.1+cu130"),
        ("accelerate", "1.16.0"),
    ],
)
def test_what_is_newer_is_let_in_with_a_warning(name, version):
    (message,) = check(**{name: version})
    assert message.startswith(f"Found {name} {version}; qtarget.train is tested with {name} {TESTED[name].oldest} to")
    assert message.endswith(f"pip install '{name}{TESTED[name].requirement}'")


def test_one_warning_names_everything_that_is_newer():
    (message,) = check(trl="1.18.0", transformers="5.30.1")
    assert "transformers 5.30.1, trl 1.18.0" in message
    assert message.endswith("pip install 'transformers>=5.10.4,<5.25' 'trl>=1.15,<1.17'")


def test_everything_that_is_wrong_is_named_at_once():
    def installed(name):
        if name == "peft":
            raise metadata.PackageNotFoundError(name)
        return (OLDEST | {"trl": "1.7.0"})[name]

    with pytest.raises(
        ImportError, match=r"Found no peft, trl 1\.7\.0; .*pip install 'peft>=0.21,<0.22' 'trl>=1.15,<1.17'"
    ):
        check_versions(installed)


def imported_beside(tmp_path, version):
    """Another release's metadata comes first on the path, as where that release is installed."""
    info = tmp_path / f"trl-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: trl\nVersion: {version}\n", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-c", "import qtarget.train.versions"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_importing_the_trainer_beside_an_older_trl_says_so(tmp_path):
    last = imported_beside(tmp_path, "1.14.2").stderr.splitlines()[-1]
    assert last.startswith("ImportError: Found trl 1.14.2; qtarget.train is tested with trl 1.15 to 1.16.")


def test_importing_the_trainer_beside_a_newer_trl_goes_on(tmp_path):
    run = imported_beside(tmp_path, "1.99.0")
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("Found trl 1.99.0; qtarget.train is tested with trl 1.15 to 1.16. It goes on") == 1


@pytest.mark.parametrize("kind", [ImportError, RuntimeError])
def test_a_missing_library_is_named_with_the_line_to_write(kind):
    """TRL and transformers say in an error of their own that they failed to import one."""

    def wrapped():
        try:
            import no_such_library.part  # noqa: F401  # pyright: ignore[reportMissingImports]
        except ModuleNotFoundError as error:
            raise kind("Could not import module 'Part'") from error

    with pytest.raises(ImportError, match=r"some\.room needs no_such_library, .*: pip install 'qtarget\[all\]'"):  # noqa: SIM117
        with needs_extra("some.room", "all"):
            wrapped()


def test_a_missing_module_of_our_own_is_a_fault_of_ours():
    with pytest.raises(ModuleNotFoundError, match=r"qtarget\.nothing"), needs_extra("some.room"):
        import qtarget.nothing  # noqa: F401  # pyright: ignore[reportMissingImports]


@pytest.mark.parametrize(
    "line", ["import trl.trainer.gone", "from trl import GoneTrainer", "import trl; trl.SFTTrainer.gone"]
)
def test_a_name_that_moved_says_what_is_tested(line):
    with pytest.raises(ImportError, match=r"Found transformers .*, trl .*one.*Write: pip install 'transformers>="):  # noqa: SIM117
        with known_parts():
            exec(line)


def test_a_library_that_is_not_there_has_not_moved():
    with pytest.raises(ModuleNotFoundError, match="no_such_library"), known_parts():
        import no_such_library  # noqa: F401  # pyright: ignore[reportMissingImports]


@pytest.mark.parametrize(
    ("library", "line", "words"),
    [
        ("packaging", "import qtarget.train", "qtarget.train needs packaging, which is not installed. Write"),
        ("accelerate", "import qtarget.train", "qtarget.train needs accelerate, which is not installed. Write"),
        ("transformers", "import qtarget.teacher", "qtarget.teacher needs transformers, which is not installed. Write"),
        ("yaml", "from qtarget.cli.main import main; main(['validate', 'x.yaml'])", "qtarget needs yaml; write"),
    ],
)
def test_without_the_extra_it_is_said_how_to_install_it(library, line, words):
    """Whichever library is missed first, and wherever."""
    code = f"import sys; sys.modules[{library!r}] = None; {line}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode in (1, 2)
    assert done.stderr.splitlines()[-1].removeprefix("ImportError: ") == f"{words}: pip install 'qtarget[train]'"
