"""One word, one thing: no public name, file or folder of the package stands for two ideas."""

import ast
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from house.package import SRC, definitions, modules

TWICE = {
    "main": "what runs when a file is started as a program: the command line, and the grader's own process",
}
"""Public names that several modules may define, and why."""

ROOM_FILES = {
    "__init__": "Python's name for a room's front",
    "picture": "what this room draws",
    "view": "what this room shows on a terminal",
}
"""Files that a room may have whatever other rooms have, and what they hold everywhere."""

PARTICIPLES = re.compile(
    r"(ed|en|ept|ade|aid|uilt|ought|orn|Old|old|Own|nown|rown|hown|Found|Held|Left|Lost|Met|Read|Sent|Told)$"
)
"""How past participles end, the last word of a name being one."""

NO_PARTICIPLES = {
    "WorkerDied": "an exception, named by what happened",
    "Token": "a noun",
}
"""Classes whose names end like a participle, and why each may."""

ROOMS_AT_MOST = 16


def test_no_public_name_is_defined_twice():
    places = defaultdict(list)
    for module, tree in modules().items():
        for name in definitions(tree):
            if not name.startswith("_"):
                places[name].append(module)
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in TWICE} == {}


def test_no_file_or_folder_name_stands_for_two_ideas():
    places = defaultdict(list)
    for path in _python(SRC):
        places[path.stem].append(path.relative_to(SRC).as_posix())
    assert {name: where for name, where in places.items() if len(where) > 1 and name not in ROOM_FILES} == {}


def test_a_newcomer_reads_the_top_level_in_ten_seconds():
    rooms = [path.stem for path in _python(SRC) if path.parent == SRC and not path.stem.startswith("__")]
    assert len(rooms) <= ROOMS_AT_MOST, sorted(rooms)


def test_classes_are_nouns():
    classes = {name.lstrip("_") for tree in modules().values() for name in _classes(tree)}
    assert {name for name in classes if PARTICIPLES.search(name)} - set(NO_PARTICIPLES) == set()


@pytest.mark.parametrize("name", ["Asked", "Kept", "Written", "TeacherFound", "Made", "RowsShown", "Told"])
def test_a_participle_is_seen(name: str):
    assert PARTICIPLES.search(name)


def test_exceptions_are_still_needed():
    """An exception that nothing uses any more is a door left open."""
    everything = Counter(name for tree in modules().values() for name in definitions(tree))
    files = Counter(path.stem for path in _python(SRC))
    assert {name for name in TWICE if everything[name] < 2} == set()
    assert {name for name in ROOM_FILES if files[name] < 2} == set()
    assert set(NO_PARTICIPLES) <= set(everything)


def _classes(tree: ast.Module) -> list[str]:
    return [name for name, node in definitions(tree).items() if isinstance(node, ast.ClassDef)]


def _python(folder: Path) -> list[Path]:
    """Python files below a folder, and the folders that hold some."""
    files = sorted(folder.rglob("*.py"))
    return [*files, *sorted({path.parent for path in files} - {folder})]
