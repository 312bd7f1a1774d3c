"""What a run is: everything that decides which weights it ends with, by name, as values that JSON can hold.

Two runs of equal identity on equal machines end with equal weights. What a run prints, where it writes and how often it
saves are not part of it. Models, rows and teachers are known by their contents, and not by their names or paths.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from accelerate.utils import gather_object, is_peft_model
from datasets import Dataset
from torch import Tensor

import qtarget as qt
from qtarget.data import PerTokenCollator
from qtarget.models.adapters import SecondAdapter
from qtarget.models.identity import template_identity, tokenizer_identity, tokenizer_settings
from qtarget.models.sharding import is_sharded, zero_stage
from qtarget.models.weights_digest import stored_tensors, weights_digest
from qtarget.servers.address_secrets import without_secrets
from qtarget.servers.secret import SECRET_ARGUMENTS
from qtarget.teacher import EvidenceSource, KeptSource, LiveModel
from qtarget.teacher.cache import Cache
from qtarget.teacher.cache.contents import key_of
from qtarget.teacher.served_store import ServedStore
from qtarget.train.reference import Snapshot
from qtarget.train.resumption.code_of_run import NOT_COMPARED, code_parts
from qtarget.train.resumption.model_settings import adapter_settings, generation_settings, model_settings
from qtarget.train.self_teacher import AdapterOff, StudentAverage

FREE_KEYS = frozenset(
    {
        "output_dir",
        "restore_callback_states_from_checkpoint",
        "resume_from_checkpoint",
        "resume_changed",
        "resume_unsealed",
        "on_save_error",
        "on_nonfinite",
        "max_skipped_steps",
        "allow_pickled_weights",
        "run_name",
        "report_to",
        "project",
        "disable_tqdm",
        "vocabulary_parallel",
        "diagnostics",
        "teacher_timeout",
        "follow_cache",
        "debug",
        "local_rank",
        "skip_memory_metrics",
        "do_train",
        "do_eval",
        "do_predict",
        "include_num_input_tokens_seen",
        "include_for_metrics",
        "batch_eval_metrics",
        "eval_accumulation_steps",
        "torch_empty_cache_steps",
        "dataset_num_proc",
        "ddp_timeout",
        "remove_unused_columns",
        "push_to_hub",
        "enable_jit_checkpoint",
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "dataloader_multiprocessing_context",
    }
)
"""Keys that change neither the weights nor the rows that are read; of a stream see `_order_of_streams`. `follow_cache`
changes the order of the rows, which is compared itself."""
FREE_PREFIXES = ("logging_", "log_", "save_", "hub_", "trackio_")
BY_CONTENT = frozenset(
    {
        "method",
        "method_kwargs",
        "teacher",
        "teacher_cache",
        "reference",
        "reference_cache",
        "eos_token",
    }
)
"""Keys in whose place something stands that says more: the method itself, contents of models, the tokenizer."""
VERSIONED = ("torch", "transformers", "trl", "accelerate", "peft")
STREAM = "a stream, which is not read ahead"
_STUDENT = "student"
_ROWS = 1000


class IdentifiableTrainer(Protocol):
    """The part of a trainer that says what its run is; `TargetSFTTrainer` has it."""

    args: Any
    model: Any
    method: qt.Method
    accelerator: Any
    train_dataset: Any
    eval_dataset: Any
    chat_template: Any
    data_collator: Any
    optimizer: Any
    optimizer_cls_and_kwargs: Any
    lr_scheduler: Any
    callback_handler: Any

    @property
    def has_given_collator(self) -> bool: ...
    @property
    def stream_settings(self) -> Mapping[str, Any]: ...
    @property
    def text_tokenizer(self) -> Any: ...
    @property
    def sources(self) -> dict[str, EvidenceSource]: ...
    @property
    def read_columns(self) -> list[str] | None: ...


def digests_of_weights(trainer: IdentifiableTrainer, is_trained: bool = False) -> dict[str, str]:
    """sha256 over all weights that a run reads, of the student ("student") and of models by their source's name.

    Args:
        is_trained: whether the student was trained by now; then its adapter is hashed too.

    To be called on every rank: of a model that is cut over ranks each hashes its part, any other the first rank alone.
    """
    read = {_STUDENT: trainer.model, **{name: _model_of(source) for name, source in trainer.sources.items()}}
    is_first, digests = trainer.accelerator.is_main_process, {}
    for name, model in read.items():
        if model is not None and (is_first or is_sharded(model)):
            source = trainer.sources.get(name)
            own = weights_digest(_given_weights(model, is_trained) if source is None else _weights_of(source))
            digests[name] = f"sha256 {_digest(gather_object([own])) if is_sharded(model) else own}"
    return digests


def run_identity(trainer: IdentifiableTrainer, weights: Mapping[str, str]) -> dict[str, Any]:
    """The identity of a run that has not begun, by name. Costs one pass over the prepared rows.

    Args:
        weights: `digests_of_weights` of it.
    """
    tokenizer = trainer.text_tokenizer
    sources = {name: _source_identity(source, weights.get(name)) for name, source in trainer.sources.items()}
    configs = {name: _source_settings(source) for name, source in trainer.sources.items()}
    facts = {
        "method": trainer.method.name,
        "hyperparameters": trainer.method.hyperparameters,
        "formula": _digest(canonical(trainer.method)),
        "rows": _rows_identity(trainer.train_dataset, trainer.read_columns),
        "evaluation_rows": _rows_identity(trainer.eval_dataset, trainer.read_columns),
        "weights": weights[_STUDENT],
        "model_config": model_settings(trainer.model),
        "adapter": adapter_settings(trainer.model.active_peft_config) if is_peft_model(trainer.model) else None,
        "generation_config": generation_settings(trainer.model),
        "tokenizer": tokenizer_identity(tokenizer),
        "tokenizer_config": tokenizer_settings(tokenizer),
        "chat_template": template_identity(trainer.chat_template or tokenizer.chat_template),
        "ends_with": tokenizer.eos_token,
        "teachers": _of_teachers(sources),
        "teacher_configs": _of_teachers(configs),
        "reference": sources.get("reference"),
        "reference_config": configs.get("reference"),
        "optimizer": _given_optimizer(trainer),
        "data_collator": _given_collator(trainer.data_collator) if trainer.has_given_collator else None,
        "ranks": trainer.accelerator.num_processes,
        "sharding": _sharding(trainer.accelerator),
        "device": trainer.accelerator.device.type,
        "mixed_precision": trainer.accelerator.mixed_precision,
        "dtypes": sorted({str(weight.dtype) for weight in trainer.model.parameters()}),
        "versions": _versions(_uses_bitsandbytes(trainer)),
        **code_parts(trainer),
    }
    facts[NOT_COMPARED] = [*_unseen_rows(facts), *facts[NOT_COMPARED]]
    return canonical({**keys_of(trainer.args), **facts, **_order_of_streams(trainer)})


def _order_of_streams(trainer: IdentifiableTrainer) -> dict[str, Any]:
    """What decides which rows of a stream come when, as its rows are not compared; nothing for rows that are."""
    sets = trainer.train_dataset.values() if isinstance(trainer.train_dataset, Mapping) else [trainer.train_dataset]
    if all(isinstance(each, Dataset) for each in sets):
        return {}
    return {"dataloader_num_workers": trainer.args.dataloader_num_workers, **trainer.stream_settings}


def _of_teachers(by_source: Mapping[str, Any]) -> dict[str, Any]:
    """Of each teacher by its number."""
    return {name.split()[1]: each for name, each in by_source.items() if name != "reference"}


def keys_of(args: Any) -> dict[str, Any]:
    """The keys of a configuration that are part of a run's identity."""
    keys = {name: getattr(args, name) for name in (field.name for field in fields(args)) if not _is_free(name)}
    loading = keys.get("model_init_kwargs")
    if isinstance(loading, dict):  # the format of a file decides no weight
        keys["model_init_kwargs"] = {name: each for name, each in loading.items() if name != "use_safetensors"} or None
    return keys


def _is_free(name: str) -> bool:
    is_secret = name.endswith("_token") and name not in ("eos_token", "pad_token")
    return name in FREE_KEYS or name in BY_CONTENT or name.startswith(FREE_PREFIXES) or is_secret


def canonical(value: Any) -> Any:
    """A value as JSON can hold it, equal for equal values: of functions the name, of sets the sorted members, of texts
    all but the secrets in addresses."""
    if isinstance(value, Enum):
        return canonical(value.value)
    if isinstance(value, str):
        return without_secrets(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, torch.dtype | torch.device):
        return str(value)
    return _canonical_insides(value)


def _canonical_insides(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            without_secrets(str(name)): canonical(each) for name, each in value.items() if name not in SECRET_ARGUMENTS
        }
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return canonical(value._asdict())  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, list | tuple):
        return [canonical(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: canonical(getattr(value, field.name)) for field in fields(value) if field.compare}
    kind = value if callable(value) and hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _rows_identity(rows: Any, columns: list[str] | None) -> Any:
    if isinstance(rows, Mapping):
        return {str(name): _rows_identity(each, columns) for name, each in rows.items()}
    if rows is None or not isinstance(rows, Dataset):
        return None if rows is None else STREAM
    return f"{len(rows)} rows, sha256 {rows_digest(rows, columns)}"


def rows_digest(rows: Dataset, columns: list[str] | None) -> str:
    """sha256 over the values of the named columns that the rows have, of None all, in the rows' order, however they are
    stored."""
    there = set(rows.column_names)
    digest, names = hashlib.sha256(), sorted(there if columns is None else there & set(columns))
    for batch in rows.with_format("arrow").iter(_ROWS):
        for name in names:
            digest.update(name.encode())
            for part in _bytes_of(batch[name].combine_chunks()):  # pyright: ignore[reportCallIssue, reportArgumentType]
                digest.update(part)
    return digest.hexdigest()


def _bytes_of(array: Any) -> Iterator[bytes]:
    """The values of an Arrow array: lengths of its lists and what is in them, numbers as 64 bits, others as JSON."""
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    yield np.asarray(array.is_null()).tobytes() if array.null_count else b""
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        yield np.asarray(array.value_lengths().fill_null(-1)).astype(np.int64).tobytes()
        yield from _bytes_of(array.flatten())
    elif pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type):
        wide = np.float64 if pa.types.is_floating(array.type) else np.int64
        nothing = False if pa.types.is_boolean(array.type) else 0
        yield np.asarray(array.fill_null(nothing)).astype(wide).tobytes()
    else:
        yield json.dumps(array.to_pylist(), sort_keys=True, default=str).encode()


def _given_weights(model: Any, is_trained: bool) -> Iterator[tuple[str, Tensor]]:
    """The weights that training begins with; of a peft model that was not trained those that it leaves as they are."""
    is_peft = is_peft_model(model) and not is_trained
    return ((name, weight) for name, weight in stored_tensors(model) if not (is_peft and weight.requires_grad))


def _model_of(source: EvidenceSource) -> Any:
    """The model in memory that a source asks; None for a source of another kind."""
    match source:
        case LiveModel():
            return source.model
        case SecondAdapter():
            return source.student
    return None


def _weights_of(source: Any) -> Iterator[tuple[str, Tensor]]:
    """The weights of a model that a source asks, or of its adapter on the student."""
    if isinstance(source, LiveModel):
        return stored_tensors(source.model)
    named = source.student.named_parameters()
    return ((name, weight) for name, weight in named if source.adapter in name.split("."))


def _source_identity(source: EvidenceSource, weights: str | None) -> Any:
    match source:
        case LiveModel():
            return f"a model, {weights}" + ("" if source.vocab is None else f" (of {source.vocab} tokens)")
        case SecondAdapter():
            return f"an adapter, {weights}"
        case KeptSource(store=Cache() as cache):
            return f"a cache, {key_of(cache.manifest.parts)}"
        case KeptSource(store=ServedStore() as served):
            return f"a server's model, {served.identity}"
        case Snapshot():
            return f"the student, every {source.every} steps"
        case AdapterOff():
            return "the student with its adapter off"
        case StudentAverage():
            return f"an average of the student, {source.decay} of which stays at each step"
    return f"{canonical(source)}, an object"


def _source_settings(source: EvidenceSource) -> dict[str, Any] | None:
    match source:
        case LiveModel():
            return model_settings(source.model)
        case SecondAdapter():
            return adapter_settings(source.student.peft_config[source.adapter])
    return None


def _given_optimizer(trainer: IdentifiableTrainer) -> Any:
    """The optimizer that was given as an object or a class; None for the one that `args.optim` names."""
    given = trainer.optimizer if trainer.optimizer is not None else trainer.optimizer_cls_and_kwargs
    return None if given is None else canonical(given)


def _given_collator(collator: Any) -> dict[str, Any]:
    """Class and plain public attributes of a collator that was given as an object."""
    collator = collator.inner if isinstance(collator, PerTokenCollator) else collator
    kind = collator if hasattr(collator, "__qualname__") else type(collator)
    plain = {name: value for name, value in getattr(collator, "__dict__", {}).items() if not name.startswith("_")}
    plain = {
        name: value for name, value in plain.items() if value is None or isinstance(value, bool | int | float | str)
    }
    return {"class": f"{kind.__module__}.{kind.__qualname__}", **plain}


def not_compared(identity: Mapping[str, Any]) -> list[str]:
    """What of a run its identity does not see."""
    return list(identity.get(NOT_COMPARED, ()))


def _unseen_rows(facts: Mapping[str, Any]) -> list[str]:
    sets = [each for name in ("rows", "evaluation_rows") for each in _values(facts.get(name))]
    return ["the rows of a stream"] if STREAM in sets else []


def _values(part: Any) -> list[Any]:
    return list(part.values()) if isinstance(part, Mapping) else [part]


def _sharding(accelerator: Any) -> str | None:
    """How weights and optimizer are cut over ranks, and so in a checkpoint; None where each rank has all of them."""
    if stage := zero_stage(accelerator.state):
        return f"ZeRO-{stage}"
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    return None if plugin is None else f"FSDP{plugin.fsdp_version}, {plugin.state_dict_type.name}"


def _uses_bitsandbytes(trainer: IdentifiableTrainer) -> bool:
    """Whether weights are quantised by bitsandbytes, or the optimizer is one of its."""
    is_quantised = getattr(trainer.model, "quantization_method", None) == "bitsandbytes"
    return is_quantised or any(part in canonical(trainer.args.optim) for part in ("8bit", "32bit", "paged"))


def _versions(uses_bitsandbytes: bool) -> dict[str, str]:
    found = {"qtarget": qt.__version__}
    for name in (*VERSIONED, *(("bitsandbytes",) if uses_bitsandbytes else ())):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
