"""A user's folder, and a search that is done in it, whose commands are run in this process."""

import json
from pathlib import Path

import pytest
from search.searched import make_home

from qtarget.cli.main import main
from qtarget.search import row_losses, search_runs, teacher_caches
from qtarget.study.own_commands import CommandCost, FailedCommandError


def in_this_process(words, log, around) -> CommandCost:
    """`run_qtarget` without a process, which takes seconds to start."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {' '.join(words)}\n")
    if around.program == search_runs.ROW_LOSSES:
        row_losses.main(words)
        return CommandCost(1.0, 1.0, 1.0)
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    if ended.value.code:
        raise FailedCommandError("failed", f"{words[0]} ended with {ended.value.code}", int(ended.value.code))
    return CommandCost(1.0, 1.0, 1.0)


@pytest.fixture(scope="session")
def home_of_search(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("search-home")
    make_home(folder)
    return folder


@pytest.fixture
def here(home_of_search, tmp_path, monkeypatch) -> Path:
    """A folder of the test's own with everything of it by link; commands are run in this process."""
    for entry in home_of_search.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    for module in (search_runs, teacher_caches):
        monkeypatch.setattr(module, "run_qtarget", in_this_process)
    return tmp_path


@pytest.fixture
def commands_failing(monkeypatch):
    """`fail(where)`: commands on whose words it is true fail, with what it returns as their last words."""

    def fail(where) -> list[str]:
        seen = []

        def failing(words, log, around) -> CommandCost:
            seen.append(" ".join(map(str, words)))
            if said := where(words):
                raise FailedCommandError("failed", said, 1)
            return in_this_process(words, log, around)

        monkeypatch.setattr(search_runs, "run_qtarget", failing)
        return seen

    return fail


@pytest.fixture
def folder_state():
    """What of a search must be the same after any way there: table, results, plan and best configuration."""

    def read(out: Path) -> dict[str, str]:
        names = ("table.md", "results.json", "search.json", "best.yaml", "space.yaml")
        state = {name: (out / name).read_text(encoding="utf-8") for name in names}
        runs = sorted(out.rglob("result.json"))
        scores = {str(path.relative_to(out)): json.loads(path.read_text())["scores"] for path in runs}
        return {**state, "scores": json.dumps(scores)}

    return read
