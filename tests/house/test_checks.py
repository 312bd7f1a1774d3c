"""`make check`, .ci/run and the published workflows do the same things."""

import re
import subprocess

import yaml
from house.package import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, re.MULTILINE))
CHECK = re.findall(r"^check: (.*)$", MAKEFILE, re.MULTILINE)[0].split()


def workflow(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8"))


def parts(name: str, job: str, command: str = "make") -> list[str]:
    """The make targets, or parts of .ci/run, that a workflow's job runs beside one another."""
    job_ = workflow(name)["jobs"][job]
    assert job_["steps"][-1]["run"] == f"{command} ${{{{ matrix.part }}}}"
    return job_["strategy"]["matrix"]["part"]


def test_ci_runs_what_make_check_runs():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    always, named, unnamed = re.search(
        r"^(part .*\n)if .*\n((?:  part .*\n)+)else\n((?:  part .*\n)+)fi$", script, re.M
    ).groups()
    assert targets(always) == ["install-dev", "install-docs"]
    assert targets(unnamed) == CHECK
    assert [line.split()[:4] for line in named.splitlines()] == [
        ["part", name, "make", name] for name in (*CHECK, "package")
    ]
    assert parts("ci", "check", ".ci/run") == CHECK


def targets(lines: str) -> list[str]:
    return [word for line in lines.splitlines() for word in line.partition(" #")[0].split()[2:] if word in TARGETS]


def test_what_runs_weekly_is_a_target_too():
    weekly = parts("weekly", "weekly")
    assert set(weekly) <= TARGETS
    assert not set(weekly) & set(CHECK)


def test_every_target_is_explained():
    """At the head of the Makefile, where `head Makefile` shows it."""
    explained = set(re.findall(r"^# make ([\w-]+)", MAKEFILE, re.MULTILINE))
    assert TARGETS - {"clean", "install-dev", "install-docs", "install-oldest"} == explained


def test_a_part_that_there_is_not_is_refused():
    done = subprocess.run(["bash", ".ci/run", "tset"], cwd=ROOT, capture_output=True, text=True)  # noqa: S607
    assert done.returncode == 2
    assert "no part is called tset" in done.stderr
