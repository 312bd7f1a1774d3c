"""A teacher that is the student as training starts and reads the same prompt: it says what the student says already."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from datasets import Dataset

import qtarget as qt
from qtarget.console import spelled_out
from qtarget.data import TEACHER_IDS, Asker, gives_another_prompt
from qtarget.teacher import SELF
from qtarget.train.build_sources import as_teachers
from qtarget.train.target_sft_config import TargetSFTConfig

STILL = 1e-9
"""A gradient to a logit that is rounding alone, in double precision."""


STARTS_AS_BASE = (True, "gaussian", "eva", "orthogonal")
"""Ways to start an adapter's weights that change nothing yet and leave the base as it is."""


def tells_more(rows: Any) -> bool:
    """Whether prepared rows tell the teacher anything else than the student; of a stream whether they may."""
    if not isinstance(rows, Dataset):
        return True
    return TEACHER_IDS in rows.column_names and gives_another_prompt(rows)


def check_equal_teacher(
    method: qt.Method,
    teachers: Any,
    model: Any,
    args: TargetSFTConfig,
    adapter: Any,
    asker: Asker,
    parts: Mapping[str, str],
) -> None:
    """Refuse a run whose rows give the teacher no prompt of its own and whose every teacher is the student itself, if
    its gradient is zero; warn where the teacher only pulls back to where training starts.

    Args:
        parts: those of rows that would give the teacher a prompt, each with its column, for the message.
        teachers, model: as the caller gave them; `teachers` is None for those of `args`.
        adapter: the configuration of one that is put on the student, if any.

    Raises:
        ValueError: names the lines to write.
    """
    named = as_teachers(args.teacher if teachers is None else teachers)
    is_average = args.ema is not None  # of the student with its adapter
    if not method.num_teachers_read or not named or not (is_average or starts_as_base(adapter)):
        return
    if not all(_is_student(each, model, args) for each in named):
        return
    line, stays = f"`teacher: {named[0]}`", stands_still(method, args.reference == "initial")
    if not stays and is_average:
        return
    own = {"prompt": "question", "completion": "answer", "privileged_context": "hint"}
    remedy = (
        "For a teacher that knows more, give rows a column with what it is told besides, as in "
        f"{asker.line('columns', own)}, or write another model's name, {asker.line('teacher', 'path/or/hub-name')}"
    )
    columns = " and ".join(f"`{spelled_out(column)}`" for column in dict.fromkeys(parts.values()))
    told = (
        f"{columns} is null or the prompt itself in every row looked at, or cut off by `max_length`"
        if parts
        else "the rows give it no prompt of its own"
    )
    same = f"is the student as training starts, and {told}: it says what the student says"
    if stays:
        raise ValueError(
            f'{line} {same}. "{method.name}" learns from the teacher alone, so its gradient is zero and nothing would '
            f"be learned. {remedy}."
        )
    warnings.warn(
        f'{line} {same}. What it adds to "{method.name}" is a pull back to where training starts. {remedy}; if that '
        f"pull is what you want, {asker.line('method', 'sft-kl')} has it too, with a weight.",
        stacklevel=2,
    )


def starts_as_base(adapter: Any) -> bool:
    """Whether a model with a new adapter of this configuration is its base as training starts."""
    if adapter is None:
        return True
    begins = {name: value for name, value in vars(adapter).items() if name.startswith("init_")}
    return all(value in STARTS_AS_BASE for name, value in begins.items() if name.endswith("weights"))


def _is_student(teacher: Any, model: Any, args: TargetSFTConfig) -> bool:
    """Whether a teacher is the student as training starts; not its base, where it comes with an adapter."""
    if not isinstance(teacher, str):
        return False
    if not isinstance(model, str):  # of an object only itself is known to be: its name says where it once came from
        return teacher == SELF and not is_peft_model(model)
    return teacher == SELF or (not args.teacher_init_kwargs and _is_same(teacher, model))


def _is_same(one: str, other: str) -> bool:
    folders = Path(one).expanduser(), Path(other).expanduser()
    return one == other or (all(each.is_dir() for each in folders) and folders[0].samefile(folders[1]))


def stands_still(method: qt.Method, with_reference: bool) -> bool:
    """Whether the gradient of a method is zero where every teacher says what the student says.

    Args:
        with_reference: whether the reference, if it reads one, says so too.
    """
    logits_TV, other_TV = torch.randn(2, 8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels_T = torch.arange(8)
    brought = {
        "teacher": (logits_TV,) * method.num_teachers,
        "reference": logits_TV if with_reference else other_TV,
        "token_weight": torch.ones(8, dtype=torch.float64),
        "sequence_ids": labels_T // 4,
        "position": torch.linspace(0, 1, 8, dtype=torch.float64),
    }
    given = {name: value for name, value in brought.items() if name in method.needs}
    times: Sequence[dict[str, Any]] = [{}]
    if "progress" in method.needs:
        times = [{"progress": share} for share in (0.0, 0.5, 1.0)]
    targets = [qt.target_distribution(logits_TV, labels_T, method, **given, **time) for time in times]
    pulls = [target.scale[:, None] * (logits_TV.softmax(-1) - target.q) for target in targets]
    return all(bool((pull.abs() < STILL).all()) for pull in pulls)
