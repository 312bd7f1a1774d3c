"""The door for rows at the trainer: opened before TRL looks at them, and again for a set that `evaluate` is given."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import AutoProcessor, AutoTokenizer

from qtarget.data import Asker, ChatStyle, OpenRows, RowForm, RowPolicy, chat_style, open_rows
from qtarget.train.target_sft_config import TargetSFTConfig


class RowDoor:
    """Opens data sets, each once.

    Args:
        processor: the tokenizer, or what holds it.  has_formatter: whether a function of the user turns rows into text
            first; such rows, and those that the trainer is told not to prepare, are left to TRL as they come.
    """

    def __init__(self, args: TargetSFTConfig, processor: Any, has_formatter: bool, asker: Asker) -> None:
        self.args, self.asker = args, asker
        self.style = _style(args, processor)
        kwargs: Any = args.dataset_kwargs or {}
        is_unprepared = bool(kwargs.get("skip_prepare_dataset"))
        self.is_closed = has_formatter or is_unprepared
        self._opened: list[OpenRows] = []

    def through(self, rows: Any, name: str) -> Any:
        """A data set's rows, or those of several by name, behind the door; anything else as it is.

        Raises:
            UnusableRow: a bad row.  ValueError: no known form.
        """
        if isinstance(rows, Mapping):
            return {key: self.through(each, f"{name}_{key}") for key, each in rows.items()}
        opened = self.open_set(rows, name)
        return rows if opened is None else opened.rows

    def open_set(self, rows: Any, name: str) -> OpenRows | None:
        """What came through the door for these rows, or these rows made; None where the door is closed to them."""
        if before := next((each for each in self._opened if each.rows is rows), None):
            return before
        if self.is_closed or not isinstance(rows, Dataset | IterableDataset) or _is_transformed(rows):
            return None
        with self.args.main_process_first(desc="checking rows"):
            opened = open_rows(
                rows, self.policy(name), self.style, columns=self._columns(), text_field=self.args.dataset_text_field
            )
        _check_completion_loss(opened.form, self.args, self.asker, list(rows.column_names or []))
        self._opened.append(opened)
        return opened

    def policy(self, name: str) -> RowPolicy:
        """What becomes of a data set's bad rows."""
        return RowPolicy(name, self.args.bad_rows, self.asker, self.args.dataset_num_proc)

    def _columns(self) -> dict[str, Any] | None:
        columns = self.args.columns
        if columns is not None and not isinstance(columns, dict):
            line = self.asker.line("columns", {"prompt": "question", "completion": "answer"})
            raise ValueError(f"`columns` is {columns!r}; expected parts of a row and their columns, as in {line}.")
        return columns


def student_processor(model: Any, args: TargetSFTConfig, given: Any) -> Any:
    """The tokenizer (or processor) that the student is trained with: the one given, else the model's own.

    None where the model's name is not known; TRL says so.
    """
    name = model if isinstance(model, str) else getattr(getattr(model, "config", None), "_name_or_path", "")
    if given is not None or not name:
        return given
    kwargs = args.model_init_kwargs if isinstance(args.model_init_kwargs, dict) else {}
    revision = kwargs.get("revision") if isinstance(model, str) else None
    return AutoProcessor.from_pretrained(_base(name), revision=revision, trust_remote_code=args.trust_remote_code)


def _base(name: str) -> str:
    """The model under an adapter's directory, which need not hold a tokenizer."""
    adapter = Path(name) / "adapter_config.json"
    if not adapter.is_file() or (Path(name) / "tokenizer_config.json").is_file():
        return name
    return json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path") or name


def _style(args: TargetSFTConfig, processor: Any) -> ChatStyle:
    """How the template that rows will be rendered with treats their turns: `chat_template_path` is read first."""
    path = args.chat_template_path
    if path is None:
        return chat_style(processor)
    if Path(path).is_file() and path.endswith((".jinja", ".j2")):
        return chat_style(processor, Path(path).read_text(encoding="utf-8"))
    return chat_style(AutoTokenizer.from_pretrained(path, trust_remote_code=args.trust_remote_code))


def _is_transformed(rows: Any) -> bool:
    """Whether rows go through a function of the user's each time they are read; TRL refuses those."""
    return isinstance(rows, Dataset) and rows.format["type"] == "custom"


def _check_completion_loss(form: RowForm, args: TargetSFTConfig, asker: Asker, columns: list[str]) -> None:
    """Refuse `completion_only_loss` on rows without a completion: TRL would learn every token."""
    has_completion = form.becomes == "prompt and completion" or {"labels", "completion_mask"} & set(columns)
    if args.completion_only_loss and not has_completion:
        instead = asker.line("learn", "assistant")
        remedy = f"Write {instead} in its place" if form.becomes == "messages" else "Remove it"
        raise ValueError(
            f"{asker.line('completion_only_loss', True)} is set, and the rows have no completion: they are "
            f"{form.sentence()}, of which all would be learned. {remedy}, or give rows with `prompt` and `completion`."
        )
