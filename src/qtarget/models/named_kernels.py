"""Kernels of the hub that a model's configuration names: transformers would download their compiled code and run it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from qtarget.models.pickled_weights import chain_of_bases

IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
"""The arguments, and fields of a configuration, that may name a kernel as `ORG/NAME`."""
_OF_PLACE = ("revision", "trust_remote_code", "subfolder", "cache_dir", "local_files_only", "token")


def refuse_named_kernels(source: str, given: Mapping[str, Any]) -> None:
    """Refuse a model whose configuration, or that of a part of it, names a kernel that was not asked for.

    What counts is the configuration that transformers makes of the folder and the arguments, as a `config.json` can
    name a field in more than one way. A model that cannot be looked at is not refused here.

    Args:
        source: the model's folder or hub name. Of an adapter its base is looked at too.
        given: arguments of the model's `from_pretrained`; a kernel among them is the user's own.

    Raises:
        ValueError: names the model, the field, the kernel and what to write.
    """
    asked = {name: given[name] for name in (*_OF_PLACE, *IMPLEMENTATIONS) if given.get(name) is not None}
    own = {*_texts(given.get(name) for name in IMPLEMENTATIONS)}
    for each in chain_of_bases(source):
        for name, kernel in _kernels(each, asked):
            if kernel not in own:
                raise ValueError(
                    f"The config.json of {each} says `{name}: {kernel}`, a kernel: transformers would download its "
                    f"code and run it. Remove it from that file; or say which is meant, `{name}: eager`, as a key of "
                    "the configuration or in model_init_kwargs, teacher_init_kwargs or reference_init_kwargs."
                )


def _kernels(source: str, asked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        config = AutoConfig.from_pretrained(source, **{"trust_remote_code": False, **asked})
    except Exception:  # an adapter has none; of another, who loads the model says what is wrong
        return
    for part in _parts(config):
        for name in IMPLEMENTATIONS:
            for value in _texts([getattr(part, f"_{name}", None)]):
                if "/" in value:
                    yield name, value


def _parts(value: Any) -> Iterator[PreTrainedConfig]:
    """The configurations in a value: itself, and those that it holds."""
    if isinstance(value, PreTrainedConfig):
        yield value
        value = vars(value)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for each in inside:
        yield from _parts(each)


def _texts(values: Iterable[Any]) -> Iterator[str]:
    """The texts among values, and inside those that are tables by part of a model."""
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _texts(value.values())
