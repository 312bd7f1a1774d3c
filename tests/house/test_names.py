"""One word, one thing: no public name, file or folder of the package stands for two ideas."""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
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

PARTICIPLE = re.compile(
    r"([^e]ed|en|ept|uilt|ought|orn|Made|Old|old|Own|nown|rown|hown|Found|Held|Left|Lost|Met|Read|Sent|Told)$"
)
"""How past participles end."""

NO_PARTICIPLES = {
    "Died": "in WorkerDied, an exception, which is named by what happened",
    "Token": "a noun",
}
"""Last words of classes' names that end like a participle, and what they are."""

ROOMS_AT_MOST = 18


def test_no_public_name_is_defined_twice():
    places = defaultdict(list)
    for module, tree in modules().items():
        for name in definitions(tree):
            if not name.startswith("_"):
                places[name].append(module)
    assert not (twice := said_twice(places, TWICE)), twice


def test_no_file_or_folder_name_stands_for_two_ideas():
    places = defaultdict(list)
    for path in _python(SRC):
        places[path.stem].append(path.relative_to(SRC).as_posix())
    assert not (twice := said_twice(places, ROOM_FILES)), twice


def said_twice(places: Mapping[str, list[str]], allowed: Iterable[str]) -> str:
    """The names with more than one place, a line each."""
    twice = {name: where for name, where in places.items() if len(where) > 1 and name not in allowed}
    return "".join(f"\n{name}: {', '.join(where)}" for name, where in sorted(twice.items()))


def test_a_name_in_two_places_is_seen():
    assert said_twice({"Plan": ["a", "b"], "view": ["a", "b"], "Pool": ["a"]}, ["view"]) == "\nPlan: a, b"


def test_a_newcomer_reads_the_top_level_in_ten_seconds():
    rooms = [path.stem for path in _python(SRC) if path.parent == SRC and not path.stem.startswith("__")]
    assert len(rooms) <= ROOMS_AT_MOST, sorted(rooms)


def test_classes_are_nouns():
    assert {name for name in _classes() if is_participle(name)} == set()


@pytest.mark.parametrize("name", ["Asked", "Kept", "Written", "TeacherFound", "_Measured", "RowsShown", "Told", "Held"])
def test_a_participle_is_seen(name: str):
    assert is_participle(name)


@pytest.mark.parametrize("name", ["Grade", "Need", "PerToken", "Document", "QuestionSet", "Head"])
def test_a_noun_is_none(name: str):
    assert not is_participle(name)


def is_participle(name: str) -> bool:
    """Whether the last word of a class's name is a past participle."""
    return bool(PARTICIPLE.search(_last_word(name))) and _last_word(name) not in NO_PARTICIPLES


def _last_word(name: str) -> str:
    return re.split(r"(?=[A-Z])", name.lstrip("_"))[-1]


def _classes() -> list[str]:
    classes = [(name, node) for tree in modules().values() for name, node in definitions(tree).items()]
    return [name for name, node in classes if isinstance(node, ast.ClassDef)]


def test_exceptions_are_still_needed():
    """An exception that nothing uses any more is a door left open."""
    everything = Counter(name for tree in modules().values() for name in definitions(tree))
    files = Counter(path.stem for path in _python(SRC))
    assert {name for name in TWICE if everything[name] < 2} == set()
    assert {name for name in ROOM_FILES if files[name] < 2} == set()
    assert set(NO_PARTICIPLES) <= set(map(_last_word, _classes()))


def _python(folder: Path) -> list[Path]:
    """Python files below a folder, and the folders that hold some."""
    files = sorted(folder.rglob("*.py"))
    return [*files, *sorted({path.parent for path in files} - {folder})]
