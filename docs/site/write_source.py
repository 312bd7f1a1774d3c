"""Writes what Sphinx reads, to a folder: the pages of docs/, those of the repository's top, and the reference.

python docs/site/write_source.py FOLDER. Pages link to files of the repository, as on GitHub: such a link becomes one to
the repository where pyproject.toml names it, and plain words where it does not.
"""

import os
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from command_pages import command_pages
from key_pages import key_pages
from method_reference import method_pages
from name_pages import name_pages
from project_facts import ROOT, project_facts

DOCS = ROOT / "docs"
TOP_PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "reporting.md"}
"""Pages of the repository's top, and what they are called on the site."""
PAGE_FILES = (".md", ".png", ".txt")
REFERENCE = "Look up"
"""The section of docs/index.md to which the generated pages belong."""
REFERENCE_LINES = """- [Every command](reference/commands.md)
- [Every configuration key](reference/keys.md)
- [Every method](reference/methods.md)
- [Every public name](reference/names.md)
"""
REFERENCE_PAGES = ["reference/commands", "reference/keys", "reference/methods", "reference/names"]
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def write_source(folder: Path) -> None:
    """The whole source, in a folder that is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in sorted(DOCS.rglob("*")):
        if path.suffix in PAGE_FILES and "site" not in path.relative_to(DOCS).parts:
            _write(folder / path.relative_to(DOCS), path)
    for name, there in TOP_PAGES.items():
        _write(folder / there, ROOT / name)
    index = folder / "index.md"
    index.write_text(with_contents(index.read_text(encoding="utf-8")), encoding="utf-8")
    for there, text in reference_pages().items():
        page = folder / "reference" / there
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")


def with_contents(index: str) -> str:
    """The first page with a table of contents for the side of every page: its own sections, and the links in them.

    The pages of the reference, which stand nowhere but on the site, follow those of the section REFERENCE.
    """
    first, *sections = index.split("\n## ")
    return "\n## ".join([first, *(_with_tree(section) for section in sections)])


def _with_tree(section: str) -> str:
    title = section.partition("\n")[0]
    pages = [target.removesuffix(".md") for _, target in LINK.findall(section) if "#" not in target]
    pages = list(dict.fromkeys([*pages, *(REFERENCE_PAGES if title == REFERENCE else [])]))
    extra = ""
    if title == REFERENCE:
        section, extra = re.sub(r"\nThe website .*", "", section), REFERENCE_LINES
    tree = "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```"])
    return f"{section.rstrip()}\n{extra}\n{tree}\n"


def reference_pages() -> dict[str, str]:
    """What is generated from the code: the text of each page, by its name in the folder `reference`."""
    return {**command_pages(), **key_pages(), **method_pages(), **name_pages()}


def _write(there: Path, path: Path) -> None:
    there.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".md":
        there.write_text(on_the_site(path.read_text(encoding="utf-8"), path), encoding="utf-8")
    else:
        shutil.copy(path, there)


def on_the_site(text: str, page: Path) -> str:
    """A page with its links to files that the site does not have led to the repository, code left as it is."""
    parts = FENCE.split(text)
    return "".join(part if part.startswith("```") else LINK.sub(lambda m: _link(m, page), part) for part in parts)


def _link(match: re.Match[str], page: Path) -> str:
    words, target = match.groups()
    path, hash_, anchor = target.partition("#")
    if re.match(r"\w+:", target) or not path:
        return match[0]
    file = Path(os.path.normpath(page.parent / path))
    there = DOCS / TOP_PAGES[file.name] if file.parent == ROOT and file.name in TOP_PAGES else file
    if there.is_relative_to(DOCS) and there.suffix in PAGE_FILES:
        folder = DOCS if page.parent == ROOT else page.parent
        return f"[{words}]({Path(os.path.relpath(there, folder)).as_posix()}{hash_}{anchor})"
    facts = project_facts()
    kind = "tree" if file.is_dir() else "blob"
    return f"[{words}]({facts.repository}/{kind}/main/{file.relative_to(ROOT).as_posix()})" if facts else words


if __name__ == "__main__":
    write_source(Path(sys.argv[1]))
