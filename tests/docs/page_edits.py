"""Following a page to the letter: its code blocks, applied to a copy of the project.

A block belongs to the file that the line above it names: "In `PATH`:" for one that is there, "The new file `PATH`:" for
one that is not. In a block for a Python file

- `NAME = {` … `}` adds its entries to the end of the file's own NAME (comments in it stand for what is there already);
- an import goes to the other imports;
- a string below a statement stays below it;
- everything else goes above NAME, or to the end of the file where the block adds to none.
"""

import ast
import re
import shutil
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^(In|The new file) `([^`]+)`[^\n]*:\n\n```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COPIED = ("src", "tests", "docs", "README.md", "CHANGELOG.md", "pyproject.toml")


class Edit(NamedTuple):
    """A block of a page: the file it is for, and whether it makes that file."""

    path: str
    is_new: bool
    text: str


def edits_of(page: str, section: str | None = None) -> list[Edit]:
    """The edits that a page asks for, in order; of one `## section`, where one is named."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if section is not None:
        text = text.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [Edit(path, how != "In", code) for how, path, _, code in BLOCK.findall(text)]


def project_with(edits: list[Edit], folder: Path) -> Path:
    """A copy of the project with the edits made."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    for edit in edits:
        file = folder / edit.path
        assert file.exists() != edit.is_new, f"{edit.path}: the page says otherwise"
        file.write_text(edit.text if edit.is_new else edited(file.read_text(encoding="utf-8"), edit.text), "utf-8")
    return folder


def edited(text: str, block: str) -> str:
    """A Python file with a block's statements in their places."""
    imports, entries, others = [], {}, []
    for statement in ast.parse(block).body:
        source = ast.get_source_segment(block, statement)
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imports.append(source)
        elif _literal_of(statement) and _literal(text, _literal_of(statement)[0]):
            name, value = _literal_of(statement)
            entries[name] = "\n".join(ast.get_source_segment(block, value).splitlines()[1:-1])
        elif others and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            others[-1] += f"\n{source}"
        else:
            others.append(source)
    for name, lines in entries.items():
        text = _with_entries(text, _literal(text, name), lines)
    if others:
        text = _with_statements(text, others, above=next(iter(entries), None))
    return _with_imports(text, imports)


def _literal_of(statement: ast.stmt) -> tuple[str, ast.expr] | None:
    """Name and value, where a statement gives a name a bracketed value."""
    target = statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
    value = getattr(statement, "value", None)
    if isinstance(target, ast.Name) and isinstance(value, ast.Dict | ast.List | ast.Tuple):
        return target.id, value
    return None


def _literal(text: str, name: str) -> ast.expr | None:
    """The file's own value of NAME."""
    named = dict(filter(None, map(_literal_of, ast.parse(text).body)))
    return named.get(name)


def _offset(text: str, line: int, column: int) -> int:
    """Place in the text of a place as `ast` counts: lines from 1, columns in bytes."""
    lines = text.splitlines(keepends=True)
    return sum(map(len, lines[: line - 1])) + len(lines[line - 1].encode()[:column].decode())


def _with_entries(text: str, value: ast.expr, lines: str) -> str:
    bracket = _offset(text, value.end_lineno, value.end_col_offset) - 1
    before = text[:bracket].rstrip()
    comma = "" if before.endswith((",", "{", "[", "(")) else ","
    return f"{before}{comma}\n{lines}\n{text[bracket:]}"


def _with_statements(text: str, statements: list[str], above: str | None) -> str:
    added = "\n\n\n".join(statements)
    if above is None:
        return f"{text.rstrip()}\n\n\n{added}\n"
    place = re.search(rf"^{above}\b", text, re.MULTILINE).start()
    return f"{text[:place]}{added}\n\n\n{text[place:]}"


def _with_imports(text: str, imports: list[str]) -> str:
    if not imports:
        return text
    last = [node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom)][-1]
    place = _offset(text, last.end_lineno, last.end_col_offset)
    return text[:place] + "".join(f"\n{line}" for line in imports) + text[place:]
