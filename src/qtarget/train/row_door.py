"""The door for rows at the trainer: opened before TRL looks at them, and again for a set that `evaluate` is given."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import AutoProcessor, AutoTokenizer

from qtarget.data import Asker, ChatStyle, OpenRows, RowForm, RowPolicy, chat_style, is_conversation, open_rows
from qtarget.outcomes import UnusableRow
from qtarget.train.row_mixture import RowMixture, RowSet
from qtarget.train.target_sft_config import TargetSFTConfig


class RowDoor:
    """Opens data sets, each once.

    Args:
        processor: the tokenizer, or what holds it.  has_formatter: whether a function of the user turns rows into text
            first; such rows, and those that the trainer is told not to prepare, are left to TRL as they come.

    Attributes:
        opened: the data sets that came through, in their order.
    """

    def __init__(self, args: TargetSFTConfig, processor: Any, has_formatter: bool, asker: Asker) -> None:
        self.args, self.asker = args, asker
        self.style = door_style(args, processor)
        kwargs: Any = args.dataset_kwargs or {}
        self.is_unprepared = bool(kwargs.get("skip_prepare_dataset"))
        self.is_closed = has_formatter or self.is_unprepared
        self.opened: list[OpenRows] = []
        self._stand_ins: list[tuple[Any, RowMixture]] = []

    def through(self, rows: Any, name: str) -> Any:
        """A data set's rows, or those of several by name, behind the door; anything else as it is.

        Raises:
            UnusableRow: a bad row.  ValueError: no known form.
        """
        if isinstance(rows, Mapping):
            return {key: self.through(each, f"{name}_{key}") for key, each in rows.items()}
        if isinstance(rows, RowMixture):
            return self._stand_in(rows, name)
        opened = self.open_set(rows, name)
        return rows if opened is None else opened.rows

    def mixture_of(self, rows: Any) -> RowMixture | None:
        """The mixture that something given as a data set is, or stands for."""
        if isinstance(rows, RowMixture):
            return rows
        return next((mixture for standing, mixture in self._stand_ins if standing is rows), None)

    def _stand_in(self, mixture: RowMixture, name: str) -> Any:
        """A data set in the place of a mixture, for TRL to look at until the mixture is prepared: the first row of a
        set, of conversations where there are some. Every set goes through the door."""
        if self.is_unprepared:
            raise ValueError(
                "`dataset_kwargs` has `skip_prepare_dataset`, and a RowMixture mixes rows that were prepared here; "
                "remove it, or mix your sets of token ids by `datasets.interleave_datasets`."
            )
        names = mixture.names(name)
        opened = [self.open_set(each.rows, own, each) for each, own in zip(mixture.sets, names, strict=True)]
        rows = [each.rows if one is None else one.rows for each, one in zip(mixture.sets, opened, strict=True)]
        chats = (one for one in rows if is_conversation(next(iter(one), {})))
        first = next(chats, rows[0])
        is_stream = any(isinstance(one, IterableDataset) for one in rows)
        standing = first.select([0]) if isinstance(first, Dataset) else first.take(1)
        standing = standing.to_iterable_dataset() if is_stream and isinstance(standing, Dataset) else standing
        sets = tuple(replace(each, rows=own) for each, own in zip(mixture.sets, rows, strict=True))
        self._stand_ins.append((standing, replace(mixture, sets=sets)))
        return standing

    def open_set(self, rows: Any, name: str, of: RowSet | None = None) -> OpenRows | None:
        """What came through the door for these rows, or these rows made; None where the door is closed to them.

        Args:
            of: the set of a mixture that they are.
        """
        if before := next((each for each in self.opened if each.rows is rows), None):
            return before
        if self.is_closed or not isinstance(rows, Dataset | IterableDataset) or _is_transformed(rows):
            return None
        with self.args.main_process_first(desc="checking rows"):
            is_shared = of is not None and not of.columns
            opened = open_rows(
                rows,
                replace(self.policy(name), shares_columns=is_shared),
                self.style,
                columns=self._columns(of),
                text_field=self.args.dataset_text_field,
            )
        _check_completion_loss(opened.form, self.args, self.asker, list(rows.column_names or []))
        if opened.given is None and next(iter(opened.rows), None) is None:
            line = self.asker.line("bad_rows", "refuse")
            raise UnusableRow(
                f"The {name} data set has no row left; look at the columns that are read; {line} names the first row."
            )
        self.opened.append(opened)
        return opened

    def policy(self, name: str) -> RowPolicy:
        """What becomes of a data set's bad rows."""
        return RowPolicy(name, self.args.bad_rows, self.asker, self.args.dataset_num_proc)

    def _columns(self, of: RowSet | None) -> Mapping[str, Any] | None:
        if of is not None and of.columns:
            return of.columns
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


def door_style(args: TargetSFTConfig, processor: Any) -> ChatStyle:
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
