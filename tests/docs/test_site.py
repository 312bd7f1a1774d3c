"""The website's source: every page has its place, the reference holds everything, links lead where they should.

Sphinx itself runs in `make site`, where a warning is an error; what it reads is made and looked at here.
"""

import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "site"))

import write_source  # noqa: E402

import qtarget as qt  # noqa: E402
from qtarget.job.config.keys import all_keys  # noqa: E402


@cache
def reference() -> dict[str, str]:
    return write_source.reference_pages()


def pages() -> list[str]:
    return sorted(p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md") if p.name != "index.md")


def test_every_page_stands_in_the_index():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    linked = {target.partition("#")[0] for _, target in write_source.LINK.findall(index)}
    assert set(pages()) - linked == set()


def test_the_index_becomes_a_table_of_contents():
    text = write_source.with_contents(
        "# t\n\nWords.\n\n## Look up\n\n- [a](a.md), [b](b.md#c)\n\n## Last\n\n- [a](d/e.md)\n"
    )
    trees = re.findall(r"```\{toctree\}\n:hidden:\n:caption: (.+)\n\n((?:.+\n)+)```", text)
    assert trees == [
        ("Look up", "a\n" + "".join(f"{page}\n" for page in write_source.REFERENCE_PAGES)),
        ("Last", "d/e\n"),
    ]


def test_the_reference_has_every_command_and_option():
    import typer.main
    from command_pages import commands

    from qtarget.cli.main import app

    text = reference()["commands.md"]
    found = dict(commands(typer.main.get_command(app), "qtarget"))
    assert {"qtarget train", "qtarget eval", "qtarget teacher cache", "qtarget recipes run"} <= set(found)
    for name, command in found.items():
        section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert [
            word for each in command.params if not each.hidden for word in options(each) if word not in section
        ] == []


def options(parameter) -> list[str]:
    is_option = parameter.param_type_name == "option" and parameter.name != "help"
    return [f"`{word}`" for word in parameter.opts] if is_option else []


def test_the_reference_has_every_key_once():
    rows = re.findall(r"^\| `(\w+)` \|", reference()["keys.md"], re.MULTILINE)
    assert sorted(rows) == sorted(all_keys())


def test_the_reference_says_what_a_key_takes():
    text = reference()["keys.md"]
    assert "| `learning_rate` | number |" in text
    assert "| `longer_rows` | `cut` or `drop` | `cut` |" in text


def test_the_reference_has_every_method_and_hyperparameter():
    text = reference()["methods.md"]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(qt.METHODS)
    assert "| `eta` | `0.5` | [0, 1] or a schedule |" in text


def test_the_reference_has_every_public_name():
    from house.public import public_names

    for module, names in public_names():
        text = reference()[f"names/{module}.md"]
        missing = [name for name in names if not re.search(rf"(:: {name}\b|`[\w.]*{name}`)", text)]
        assert missing == [], module


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("docs/rows.md", "[a](teachers.md#cached)", "[a](teachers.md#cached)"),
        ("docs/rows.md", "[a](../CHANGELOG.md)", "[a](changelog.md)"),
        ("docs/maintainers/design.md", "[a](../../CHANGELOG.md)", "[a](../changelog.md)"),
        ("CONTRIBUTING.md", "[a](CHANGELOG.md)", "[a](changelog.md)"),
        ("CONTRIBUTING.md", "[a](docs/maintainers/design.md)", "[a](maintainers/design.md)"),
        ("docs/rows.md", "[a](https://arxiv.org)", "[a](https://arxiv.org)"),
        ("docs/rows.md", "[a](#here)", "[a](#here)"),
        ("docs/rows.md", "![a](study.png)", "![a](study.png)"),
        ("docs/rows.md", "```\n[a](../LICENSE)\n```", "```\n[a](../LICENSE)\n```"),
    ],
)
def test_links_lead_to_pages_of_the_site(page: str, link: str, there: str):
    assert write_source.on_the_site(link, ROOT / page) == there


@pytest.mark.parametrize(
    ("repository", "there"), [("", "x"), ("https://e.org/q", "[x](https://e.org/q/blob/main/LICENSE)")]
)
def test_files_of_the_repository_are_linked_where_it_is_known(repository: str, there: str, monkeypatch):
    from project_facts import ProjectFacts

    monkeypatch.setattr(write_source, "project_facts", lambda: ProjectFacts(repository, ""))
    assert write_source.on_the_site("[x](../LICENSE)", DOCS / "rows.md") == there


def test_the_address_is_written_in_one_place():
    """And in no other: whoever publishes the project fills in two lines of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {"readme", "urls"} <= set(project["project"]["dynamic"])
    assert {"repository", "documentation"} == set(project["tool"]["hatch"]["metadata"]["hooks"]["custom"])


def test_entries_of_a_docstring_stand_apart_and_indented_lines_are_code():
    from docstrings import entries_apart, with_code

    lines = [
        "One.",
        "",
        "Attributes:",
        "    q: [V].  p: [T], a.  b is.",
        "        more.  not: here",
        "",
        "Code",
        "",
        "    f(x)",
        "",
        "End",
    ]
    assert entries_apart(lines)[2:6] == [
        "Attributes:",
        "    q: [V].",
        "    p: [T], a.  b is.",
        "        more.  not: here",
    ]
    assert with_code(lines)[-6:] == ["", "::", "", "    f(x)", "", "End"]
    assert with_code(lines).count("::") == 1
