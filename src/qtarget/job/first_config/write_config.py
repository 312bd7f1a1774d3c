"""`qtarget init`: from a command's flags to a configuration that `qtarget validate` takes as it stands."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qtarget.data.user_files.yaml_file import YamlFile
from qtarget.disk.files import json_text, replace_text
from qtarget.disk.place import check_place, free_name
from qtarget.job.config.config_schema import TITLE, configuration_schema
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import check_job
from qtarget.job.config.user_input import UserInput, user_input
from qtarget.job.first_config.commented_yaml import commented_yaml
from qtarget.job.first_config.key_choices import Sections, checkpointing, chosen_settings
from qtarget.job.first_config.memory_need import bytes_without_checkpointing
from qtarget.job.first_config.run_facts import RunFacts, look_at_run
from qtarget.job.output_folder import check_output
from qtarget.job.rows.sources import FIRST_ROWS

OUTPUT, SCHEMA_FILE = "out", "qtarget-schema.json"


@dataclass(frozen=True)
class FirstConfig:
    """A configuration and what it was chosen by; nothing is on disk yet.

    Attributes:
        path: of the file.  schema: the file beside it that editors check it by.
        given: the user's keys.
    """

    path: Path
    given: Mapping[str, Any]
    facts: RunFacts
    settings: Sections

    @property
    def schema(self) -> Path:
        return self.path.with_name(SCHEMA_FILE)

    @property
    def text(self) -> str:
        return commented_yaml(self.given, self.settings, self.facts, SCHEMA_FILE, str(self.path))

    def write(self) -> None:
        """Write the configuration, and its schema beside it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(self.schema, json_text(configuration_schema(), indent=1) + "\n")
        replace_text(self.path, self.text)


def prepare_config(path: Path, flags: Mapping[str, list[str]], force: bool = False, quick: bool = False) -> FirstConfig:
    """Look at the model and the rows that flags name, and choose the rest.

    Args:
        path: the file that will be written.
        flags: keys of a configuration, as `--key value` gave them.
        force: the file may be there already.
        quick: look at the first rows of each source alone.

    Raises:
        ValueError: the file is there or cannot be written, or the run cannot be, as `qtarget validate` says it.
    """
    _check_file(path, force)
    given = _with_defaults(user_input(YamlFile({}, {}), RunArguments(None, dict(flags))))
    job = check_job(given)
    check_output(job)
    facts = look_at_run(replace(job, row_limit=FIRST_ROWS) if quick else job)
    settings = chosen_settings(given.values, facts)
    settings["How"].append(checkpointing(bytes_without_checkpointing(given, settings, facts), facts.free))
    return FirstConfig(path, given.values, facts, settings)


def _with_defaults(given: UserInput) -> UserInput:
    """The user's keys, with a method that fits whether there is a teacher, and a free place for the results."""
    values = dict(given.values)
    has_teacher = any(values.get(key) for key in ("teacher", "teacher_cache"))
    values.setdefault("method", "target-sft" if has_teacher else "sft")
    values.setdefault("output_dir", str(free_name(Path(OUTPUT))))
    return replace(given, values=values)


def _check_file(path: Path, force: bool) -> None:
    if path.is_dir():
        raise ValueError(f"`--out {path}` is a directory; name the file, as in --out {path / 'config.yaml'}.")
    if path.exists() and not force:
        names = (path.with_stem(f"{path.stem}-{number}") for number in range(2, 10_000))
        free = next(name for name in names if not name.exists())
        raise ValueError(f"`--out {path}` is there already; write --force to replace it, or --out {free}.")
    schema = path.with_name(SCHEMA_FILE)
    if schema.exists() and TITLE not in schema.read_text(encoding="utf-8", errors="replace")[:200]:
        raise ValueError(f"{schema} is there and is no schema of ours; move it, or write the configuration elsewhere.")
    check_place(path.parent, f"`--out {path}`")
