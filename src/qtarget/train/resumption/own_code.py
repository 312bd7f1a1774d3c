"""What functions and objects of a user's own do, as far as it can be told: their code and the values that they hold.

Of what a library holds the name is enough, as its version stands beside it. What cannot be looked into is named.
"""

import dis
import functools
import hashlib
import json
import platform
import random
import re
import sys
import types
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from qtarget.models.identity import tokenizer_identity
from qtarget.models.sharding import is_sharded
from qtarget.models.weights_digest import stored_tensors, weights_digest
from qtarget.train.resumption.model_settings import model_settings

_OURS = "qtarget"
_LIBRARIES = frozenset({*sys.stdlib_module_names, _OURS})
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_COMPARED = frozenset({"torch", "transformers", "trl", "accelerate", "peft"})
"""Libraries whose versions are a part of the identity for themselves."""
_PLAIN = bool | int | float | complex | str | bytes | range | PurePath | re.Pattern | torch.dtype | torch.device
_UNTOLD = random.Random | np.random.Generator | np.random.RandomState | torch.Generator
"""Generators of random numbers, which stand elsewhere in every process unless they are seeded."""
_SLOTS = (
    types.GetSetDescriptorType | types.MemberDescriptorType | types.WrapperDescriptorType | types.MethodDescriptorType
    | types.ClassMethodDescriptorType | types.MethodWrapperType
)  # fmt: skip
"""What Python makes of attributes in compiled classes, and of `__slots__`."""
_CACHED = type(functools.lru_cache(is_sharded))
_OF_CLASSES = frozenset(
    {
        "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__firstlineno__", "__annotations__",
        "__static_attributes__", "__abstractmethods__", "_abc_impl", "__dataclass_fields__", "__dataclass_params__",
        "__match_args__", "__orig_bases__", "__parameters__", "__annotate_func__", "__annotations_cache__",
    }
)  # fmt: skip
"""What Python writes into a class: no code, or of the code that stands beside it."""
_MOST = 20_000
"""Values that are looked at of one object."""


class Content:
    """What one function or object holds.

    Attributes:
        unseen: names of what cannot be looked into, each once.
    """

    def __init__(self, whole: Any, known: Mapping[int, str]) -> None:
        self.unseen: list[str] = []
        self._known = known
        self._seen: list[Any] = []
        self._told_of: dict[int, str] = {}
        try:
            self._told = self._of(whole)
        except RecursionError:
            self._told = self._untold("values nested too deeply")

    @property
    def digest(self) -> str:
        """sha256 over it. Of the version of Python too: another compiles to another code."""
        return _sha256(self._told)

    def _of(self, value: Any) -> Any:
        if value is None or (isinstance(value, _PLAIN) and not isinstance(value, Enum)):
            return f"{type(value).__name__} {value!r}"
        if id(value) in self._known:
            return self._known[id(value)]
        if id(value) in self._told_of:
            return self._told_of[id(value)]
        if len(self._seen) >= _MOST:
            return self._untold(f"more than {_MOST:,} values")
        self._seen.append(value)  # while it is held, no other has its id
        self._told_of[id(value)] = f"within {type(value).__name__}"  # it may hold itself
        self._told_of[id(value)] = _sha256(self._of_many(value))
        return self._told_of[id(value)]

    def _of_many(self, value: Any) -> Any:
        match value:
            case Tensor():
                return f"tensor {weights_digest([('', value)])}"
            case np.ndarray() | np.generic() if value.dtype != object:
                return f"array {value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
            case Mapping():
                return {"mapping": sorted(([str(self._of(k)), self._of(v)] for k, v in value.items()), key=str)}
            case list() | tuple() | deque():
                return [type(value).__name__, *map(self._of, value)]
            case set() | frozenset():
                return ["set", *sorted(json.dumps(self._of(each)) for each in value)]
            case Enum():
                return ["member", f"{full_name(type(value))}.{value.name}", self._of(value.value)]
        return self._of_code(value)

    def _of_code(self, value: Any) -> Any:
        match value:
            case functools.partial():
                return ["partial", self._of(value.func), self._of(value.args), self._of(value.keywords)]
            case types.MethodType():
                return ["method", self._of(value.__func__), self._of(value.__self__)]
            case staticmethod() | classmethod():
                return [type(value).__name__, self._of(value.__func__)]
            case property():
                return ["property", *map(self._of, (value.fget, value.fset, value.fdel))]
            case functools.cached_property():
                return ["property", self._of(value.func)]
            case types.FunctionType():
                return self._of_function(value)
            case types.ModuleType() if is_own_module(value):
                return self._untold(f"the module {value.__name__}")
            case types.ModuleType() | types.BuiltinFunctionType():
                return full_name(value)
            case type():
                return self._of_class(value)
        if isinstance(value, _SLOTS):
            return full_name(value)
        if isinstance(value, _CACHED):
            return ["wrapped", self._of(value.__wrapped__)]
        return self._of_object(value)

    def _of_function(self, function: types.FunctionType) -> Any:
        """Code, defaults and what it reads from outside; of a library's the values that it was made with."""
        cells = [_inside(each) for each in function.__closure__ or ()]
        if is_own(function):
            names = _names_in(function.__code__)
            cells = [_read_of(each, names) if is_own_module(each) else each for each in cells]
        held = (function.__defaults__, function.__kwdefaults__, cells)
        if not is_own(function):
            is_ours = _package(function) == _OURS  # a library's other functions are what their names say
            return [full_name(function), *(map(self._of, held) if is_ours else ())]
        return ["function", _code(function.__code__), *map(self._of, held), self._of(_read_by(function))]

    def _of_class(self, kind: type) -> Any:
        if not is_own(kind):
            return full_name(kind)
        own = {name: each for name, each in vars(kind).items() if name not in _OF_CLASSES}
        return [full_name(kind), self._of(own), *map(self._of, kind.__bases__)]

    def _of_object(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, nn.Module):
            return self._of_module(value)
        if isinstance(value, PreTrainedTokenizerBase):
            return f"tokenizer {tokenizer_identity(value)}"
        if is_dataclass(value):
            return [
                self._of(kind),
                {each.name: self._of(getattr(value, each.name)) for each in fields(value) if each.init},
            ]
        if isinstance(value, _UNTOLD) or not (is_own(kind) or _package(kind) == _OURS):
            return self._untold(f"a {full_name(kind)}")
        return [self._of(kind), self._of(dict(_state(value)))]

    def _of_module(self, module: nn.Module) -> Any:
        if is_sharded(module):
            return self._untold(f"a {full_name(type(module))} that is cut over ranks")
        parts = [(name, each) for name, each in module.named_modules() if is_own(type(each))]
        own = [[name, self._of(type(each)), self._of(_plain_attributes(each))] for name, each in parts]
        weights = weights_digest(stored_tensors(module))
        return ["module", full_name(type(module)), own, weights, self._of(model_settings(module))]

    def _untold(self, name: str) -> str:
        self.unseen += [] if name in self.unseen else [name]
        return name


def _sha256(told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def python_version() -> str:
    """Whose code it is: 3.12."""
    return ".".join(platform.python_version_tuple()[:2])


def is_own(value: Any) -> bool:
    """Whether a function or class is of the user's, and not of Python, of an installed library or ours."""
    if _package(value) in _LIBRARIES:
        return False
    file = getattr(sys.modules.get(value.__module__ or ""), "__file__", None)
    return file is None or not _INSTALLED & set(Path(file).parts)


def _package(value: Any) -> str:
    return (getattr(value, "__module__", None) or "").partition(".")[0]


def full_name(value: Any) -> str:
    """The name of a function or a class and, of a library that says it, the version."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
    package = _package(value) or name.partition(".")[0]
    version = getattr(sys.modules.get(package), "__version__", None) if package not in (_OURS, *_COMPARED) else None
    return f"{getattr(value, '__module__', '')}.{name}" + (f" {version}" if isinstance(version, str) else "")


def _inside(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _state(value: Any) -> Iterator[tuple[str, Any]]:
    yield from getattr(value, "__dict__", {}).items()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    """What a module of the user's was made with, besides weights and what torch keeps in it."""
    return {name: each for name, each in vars(module).items() if not name.startswith("_") and name != "config"}


def _code(code: types.CodeType) -> list[Any]:
    """A compiled function, without lines and files. What its constants hold of nested functions is looked into."""
    return [
        hashlib.sha256(code.co_code).hexdigest(),
        [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags],
        [*code.co_names], [*code.co_varnames], [*code.co_freevars], [*code.co_cellvars],
        [_constant(each) for each in code.co_consts],
    ]  # fmt: skip


def _constant(value: Any) -> Any:
    if isinstance(value, types.CodeType):
        return _code(value)
    if isinstance(value, frozenset):
        return sorted(map(repr, value))
    return f"{type(value).__name__} {value!r}"


def _globals_of(code: types.CodeType, there: Mapping[str, Any]) -> list[str]:
    """The global names that a function and those inside it read, and that are there by now."""
    names = {each.argval for each in dis.get_instructions(code) if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inner = (name for each in code.co_consts if isinstance(each, types.CodeType) for name in _globals_of(each, there))
    return sorted(name for name in {*names, *inner} if name in there)


def _read_by(function: types.FunctionType) -> dict[str, Any]:
    """What a function reads from outside, by name: of the user's modules what stands in them under a name that is in
    the code."""
    code, there = function.__code__, function.__globals__
    read = {name: there[name] for name in _globals_of(code, there)}
    read |= {f"import {module.__name__}": module for module in _imported_in(code, there)}
    names = _names_in(code)
    return {name: _read_of(each, names) if is_own_module(each) else each for name, each in read.items()}


def is_own_module(value: Any) -> bool:
    """Whether a value is a module of the user's."""
    if not isinstance(value, types.ModuleType) or value.__name__.partition(".")[0] in _LIBRARIES:
        return False
    places = [getattr(value, "__file__", None) or "", *getattr(value, "__path__", ())]
    return not any(_INSTALLED & set(Path(place).parts) for place in places)


def _read_of(module: types.ModuleType, names: Collection[str], within: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a module that stand under one of the names, those of the user's modules in it likewise."""
    within = (*within, module.__name__)
    held = {name: vars(module)[name] for name in names if name in vars(module)}
    return {
        name: _read_of(each, names, within) if is_own_module(each) else each
        for name, each in held.items()
        if not (is_own_module(each) and each.__name__ in within)
    }


def _names_in(code: types.CodeType) -> frozenset[str]:
    """All names of attributes, globals and modules in a function and in those inside it."""
    inner = [_names_in(each) for each in code.co_consts if isinstance(each, types.CodeType)]
    return frozenset(code.co_names).union(*inner)


def _imported_in(code: types.CodeType, there: Mapping[str, Any]) -> list[types.ModuleType]:
    """The modules of the user's that a function imports itself, and that are imported by now."""
    named = [each.argval for each in dis.get_instructions(code) if each.opname == "IMPORT_NAME"]
    named = [name for each in named for name in (each, each.partition(".")[0], f"{there.get('__package__')}.{each}")]
    found = [sys.modules[name] for name in named if name in sys.modules]
    inner = [each for one in code.co_consts if isinstance(one, types.CodeType) for each in _imported_in(one, there)]
    return [each for each in (*found, *inner) if is_own_module(each)]
