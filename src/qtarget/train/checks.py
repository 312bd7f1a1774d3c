"""Refuses methods, data and models that the trainer cannot train, where possible before any model is loaded."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from transformers import ProcessorMixin, get_scheduler

import qtarget as qt
from qtarget.console import spelled_out
from qtarget.data import SPANS, TEACHER_IDS, TEACHER_PARTS, WEIGHT, Asker, OpenRows, carries_weight, column_names
from qtarget.train.row_mixture import RowSet, sets_of


def check_data_sets(train: Any, evaluation: Any) -> None:
    """Refuse what holds data sets, or rows, and is none, with the line that makes one of it.

    Args:
        evaluation: a data set, or several by name.

    Raises:
        ValueError: a list, a mapping to train on, a name or a `RowSet` outside a `RowMixture`.
    """
    named = evaluation if isinstance(evaluation, Mapping) else {"": evaluation}
    given = {
        "train_dataset": train,
        **{f"eval_dataset[{key!r}]" if key else "eval_dataset": named[key] for key in named},
    }
    for key, rows in given.items():
        if isinstance(rows, list | tuple | Mapping | str | RowSet):
            raise ValueError(f"`{key}` is a {type(rows).__name__}, and no data set; write {_data_set_line(key, rows)}.")


def _data_set_line(key: str, rows: Any) -> str:
    kinds = Dataset | IterableDataset | RowSet
    if isinstance(rows, RowSet):
        return f"{key}=RowMixture([row_set])"
    if isinstance(rows, str):
        return f"{key}=datasets.load_dataset({rows!r}, split='train')"
    if isinstance(rows, Mapping):
        first = next(iter(rows.items()), ("train", None))
        is_set = isinstance(first[1], Dataset | IterableDataset)
        return f"{key}=sets[{first[0]!r}]" if is_set else f"{key}=datasets.Dataset.from_dict(rows)"
    if rows and all(isinstance(each, kinds) for each in rows):
        sets = ", ".join(
            f"set_{i}" if isinstance(each, RowSet) else f"RowSet(rows_{i})" for i, each in enumerate(rows, 1)
        )
        return f"{key}=RowMixture([{sets}])"
    return f"{key}=datasets.Dataset.from_list(rows)"


def check_method(method: qt.Method, teachers: Sequence[Any], reference: Any, packing_strategy: str | None) -> None:
    """Refuse a method whose teacher or reference is missing, and a teacher or reference that it does not read.

    Args:
        packing_strategy: None when rows are not packed.
    """
    reads_none = method.num_teachers > 0 == method.num_teachers_read  # target-sft at eta 0: a sweep keeps its teacher
    if not reads_none and not method.num_teachers_read <= len(teachers) <= method.num_teachers:
        raise ValueError(_teachers_differ(method, len(teachers)))
    if "reference" in method.needs and reference is None:
        raise ValueError(
            f'"{method.name}" needs a reference, and reference is None; write `reference: initial` for the '
            "model as training starts, or `reference: path/or/hub-name`."
        )
    if "reference" not in method.needs and reference not in (None, "initial"):
        raise ValueError(
            f'"{method.name}" reads no reference, and one is given; remove `reference`, or change `method`.'
        )
    if "sequence_ids" in method.needs and packing_strategy == "wrapped":
        raise ValueError(
            f'"{method.name}" looks at whole sequences, and packing_strategy "wrapped" loses where they '
            "begin; write `packing_strategy: bfd`."
        )
    if "position" in method.needs and packing_strategy in ("wrapped", "bfd_split"):
        raise ValueError(
            f'"{method.name}" reads where a token stands in its completion, and packing_strategy "{packing_strategy}" '
            "cuts completions; write `packing_strategy: bfd`."
        )


def check_schedule(method: qt.Method, args: Any, dataset: Any) -> None:
    """Refuse a schedule along a run of which nobody knows how many steps it has, and the length of one that is not."""
    if args.schedule_steps and "progress" not in method.needs:
        raise ValueError(
            f'"{method.name}" has no schedule along the run, and schedule_steps is {args.schedule_steps}; remove '
            "`schedule_steps`, or write one, as in `eta: {from: 0.2, to: 0.8}` of target-sft."
        )
    if "progress" not in method.needs or args.schedule_steps or args.max_steps > 0:
        return
    if not all(hasattr(rows, "__len__") for rows in sets_of(dataset)):
        raise ValueError(
            f'"{method.name}" has a schedule, and how many steps a stream of rows makes is not known; write '
            "`max_steps: 1000`, or `schedule_steps: 1000` for a schedule of another length than the run."
        )


def _why_a_teacher(method: qt.Method) -> str:
    """Who needs one: the method, or a statistic that one of its numbers is."""
    read = [statistic.name for statistic in method.reads if (statistic.source or "").startswith("teacher")]
    in_pools = any(len(pool.teachers) for pool in method.pools)
    if in_pools or not read:
        return f'"{method.name}"'
    return f'"{read[0]}", which a number of "{method.name}" is or follows (as in `trust: teacher_p_y`),'


def _teachers_differ(method: qt.Method, given: int) -> str:
    if method.num_teachers == 0:
        return f'"{method.name}" reads no teacher, and {given} given; remove `teacher`, or change `method`.'
    if given == 0:
        return f"{_why_a_teacher(method)} needs a teacher, and none was given; write `teacher: path/or/hub-name`."
    return (
        f'"{method.name}" is set up for {method.num_teachers} teacher(s), and {given} given; '
        f"write `teacher` as a list of {method.num_teachers}."
    )


def check_weights(method: qt.Method, dataset: Any) -> None:
    """Refuse a method that reads token weights when the data carry none; warn of one whose matter is negative weights,
    which rows do not hold."""
    if "token_weight" not in method.needs:
        return
    if method.signed_weights:
        warnings.warn(
            f'"{method.name}" moves away from tokens of negative weight, and rows hold none: it trains as `method: '
            "sft` does with the same weights. In a loop of your own the loss calls take negative `token_weight`.",
            stacklevel=2,
        )
    if columns := next((column_names(rows) for rows in sets_of(dataset) if not carries_weight(rows)), None):
        raise ValueError(
            f'"{method.name}" reads a weight for every token, and the training data have the columns '
            f"{sorted(columns)}; add `{SPANS}` ([start, end, weight] in characters of the "
            "completion) or, for "
            f"pre-tokenised rows, `{WEIGHT}` (one number per token)."
        )


def check_teacher_prompts(method: qt.Method, opened: Sequence[OpenRows], asker: Asker) -> None:
    """Refuse rows that give the teacher a prompt of its own where the method has none.

    Raises:
        ValueError: with the line that leaves the column unread.
    """
    parts = teacher_parts(opened)
    if parts and method.num_teachers == 0:
        column = spelled_out(next(iter(parts.values())))
        raise ValueError(
            f'The rows have `{column}`, which a teacher is asked, and "{method.name}" reads no teacher. Write '
            f"{asker.line('columns', dict.fromkeys(parts))} to leave the column unread, or a `method` with a teacher."
        )


def teacher_parts(opened: Sequence[OpenRows]) -> dict[str, str]:
    """The parts of rows that give a teacher a prompt of its own, each with its column; of rows that were laid out
    already every part that may have given it."""
    laid_out = any(TEACHER_IDS in column_names(each.rows) for each in opened)
    parts = dict.fromkeys(TEACHER_PARTS, TEACHER_IDS) if laid_out else {}
    return parts | {part: each.form.teacher_column for each in opened if (part := each.form.teacher_part)}


def check_surroundings(compute_loss_func: Callable | None, processing_class: Any, dataset: Any) -> None:
    """Refuse a second loss, and models that see more than text."""
    if compute_loss_func is not None:
        raise ValueError(
            "`compute_loss_func` is given beside `method`. Remove `compute_loss_func=...`; "
            "`qtarget.Method(...)` composes an objective of your own."
        )
    columns = {name for rows in sets_of(dataset) for name in column_names(rows)}
    if isinstance(processing_class, ProcessorMixin) or {"image", "images"} & columns:
        raise ValueError(
            "Vision-language models are not supported: the targets here are over text. Pass a tokenizer as "
            "`processing_class`, a text-only model and rows without images."
        )
    if "shift_labels" in columns:
        raise ValueError(
            "The data have a column `shift_labels`; labels are shifted here, in one place. Remove the column "
            "and keep `labels`."
        )


def check_device(args: Any, asker: Asker) -> None:
    """Refuse what needs an accelerator in a run on the CPU.

    Raises:
        ValueError: with the line to write.
    """
    if args.activation_offloading and args.device.type == "cpu":
        raise ValueError(
            "`activation_offloading: true` moves what the backward pass needs from an accelerator into the machine's "
            f"memory, and this run is on the CPU; write {asker.line('activation_offloading', False)}."
        )


def check_batch_size(args: Any, asker: Asker) -> None:
    """Refuse a batch that shrinks by itself: it is part of what a run is, of its record and of going on with it.

    Raises:
        ValueError: with the line to write.
    """
    if args.auto_find_batch_size:
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
        raise ValueError(
            "`auto_find_batch_size: true` changes the batch while a run is under way, and its record would state "
            f"another one. Remove it, and write {asker.line('per_device_train_batch_size', 1)} with "
            f"{asker.line('gradient_accumulation_steps', rows)}: the same batch in less "
            "memory. `qtarget estimate` says what fits."
        )


def check_rate_schedule(args: Any, asker: Asker) -> None:
    """Refuse a schedule of the learning rate that lacks a number which it needs, or is given one that transformers
    refuses for it; where it takes none (`constant`), transformers leaves out what is given.

    Raises:
        ValueError: with transformers' reason.
    """
    optimizer = torch.optim.SGD([torch.zeros(1)], args.learning_rate)
    name, given = str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)), args.lr_scheduler_kwargs
    try:
        get_scheduler(name, optimizer, 1, 10, scheduler_specific_kwargs=given if isinstance(given, dict) else None)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`lr_scheduler_type: {name}` cannot be made with `lr_scheduler_kwargs: {given}` ({error}). Write what it "
            f"takes, or {asker.line('lr_scheduler_type', 'cosine')} without `lr_scheduler_kwargs`."
        ) from error


def check_row_order(args: Any, asker: Asker) -> None:
    """Refuse an order of rows that a run which goes on cannot find again.

    Raises:
        ValueError: with the line to write.
    """
    if args.ignore_data_skip:
        raise ValueError(
            "`ignore_data_skip: true` begins an epoch anew where a run goes on in the middle of it, so that it would "
            f"read other rows than the run that was never stopped. Write {asker.line('ignore_data_skip', False)}."
        )
    if not args.accelerator_config.use_seedable_sampler:
        raise ValueError(
            "`use_seedable_sampler: false` of `accelerator_config` shuffles each epoch by all random numbers drawn "
            "before it, so that a run which goes on would read other rows than the run that was never stopped. Write "
            f"{asker.line('accelerator_config', {'use_seedable_sampler': True})}."
        )


def check_following(args: Any, rows: Any, asker: Asker) -> None:
    """Refuse to follow a cache where rows do not come one after the other, in its order.

    Raises:
        ValueError: with the line to write.
    """
    if not args.follow_cache:
        return
    said = "`follow_cache: true` takes rows in the order in which their cache is written, one document each, and "
    if args.packing:
        raise ValueError(f"{said}packed rows hold many. Write {asker.line('packing', False)}.")
    if args.train_sampling_strategy != "sequential":
        raise ValueError(
            f"{said}`train_sampling_strategy: {args.train_sampling_strategy}` takes them in another one. Write "
            f"{asker.line('train_sampling_strategy', 'sequential')}."
        )
    if isinstance(rows, IterableDataset):
        raise ValueError(f"{said}a stream has an order of its own. Write {asker.line('streaming', False)}.")


def check_batch(batch: Any) -> None:
    """Refuse a batch of a user's collator without labels, or with labels of another shape or shifted already."""
    if "labels" not in batch or "shift_labels" in batch:
        raise ValueError(
            f"The collator made a batch of {sorted(batch)}; expected `input_ids` and `labels` `[B, S]`, "
            "unshifted, and no `shift_labels`. Leave `data_collator` out, or let yours return them so."
        )
    ids, labels = batch["input_ids"], batch["labels"]
    if labels.shape != ids.shape:
        raise ValueError(
            f"The collator made `labels` {list(labels.shape)} beside `input_ids` {list(ids.shape)}; expected one label "
            "for each token, -100 where nothing is learned. Leave `data_collator` out, or let yours return them so."
        )


def check_built(model: Any, accelerator: Any, is_vision: bool) -> None:
    """Refuse model families and parallelism that are known only after TRL has built everything."""
    if is_vision or model.config.get_text_config() is not model.config:
        raise ValueError(
            f"{type(model).__name__} is a vision-language model (its text model is a part of it), which is "
            "not supported; "
            "train a text-only causal language model."
        )
    parallel = accelerator.parallelism_config
    if parallel is not None and (parallel.cp_enabled or parallel.sp_enabled):
        raise ValueError(
            "Context and sequence parallelism hand over labels that are shifted already (`shift_labels`) and "
            "cut across ranks, "
            "which is not supported; set cp_size and sp_size to 1 in the parallelism config."
        )


def refuse_balancing(model: Any, coefficient: float | None) -> None:
    """Refuse a balancing loss that a user asks for (a coefficient) of a model that has none."""
    if coefficient:
        raise ValueError(
            f"`router_aux_loss_coef: {coefficient}` is given, and {type(model).__name__} has no routers, or its family "
            "no load-balancing loss; remove `router_aux_loss_coef`."
        )


def check_learn(learn: str | None, assistant_only: bool | None, completion_only: bool | None, asker: Asker) -> None:
    """Refuse TRL's keys where they say otherwise than `learn`.

    Args:
        assistant_only, completion_only: `assistant_only_loss` and `completion_only_loss`; None where not given.

    Raises:
        ValueError: both are named, with the line to keep.
    """
    said = {"assistant_only_loss": assistant_only, "completion_only_loss": completion_only}
    agree = {
        "assistant": {"assistant_only_loss": True, "completion_only_loss": True},
        "last": {"assistant_only_loss": None, "completion_only_loss": True},
        "all": {"assistant_only_loss": False, "completion_only_loss": False},
    }
    for key, value in said.items():
        if learn in agree and value is not None and value is not agree[learn][key]:
            other = "all" if value is False else "assistant"
            raise ValueError(
                f"{asker.line('learn', learn)} and {asker.line(key, value)} contradict each other. Keep one: remove "
                f"`{key}`, or write {asker.line('learn', other)} alone."
            )
