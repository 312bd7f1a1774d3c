"""Recipes read from the YAML files in `files/`."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from qtarget.data.user_files.yaml_file import read_yaml
from qtarget.recipes.schema import (
    DataFile,
    EvaluationFile,
    MethodPart,
    MethodsFile,
    ModelFile,
    ProtocolFile,
    SettingPart,
    SettingsFile,
    ShapesFile,
    Values,
)
from qtarget.target.hyperparameters import suggestion

FILES = Path(__file__).parent / "files"
FileSchema = TypeVar("FileSchema", bound=BaseModel)


@dataclass(frozen=True)
class Recipe:
    """A data set, a student with its teacher, and the arms (ways of training) to compare on them.

    Attributes:
        versions: recipe_version of every file it is put together from, by the file's name.
        changes: keys of its training that a user gave in the place of its own; they hold above all files.
        asked_otherwise: the same of its evaluation.
    """

    name: str
    data: DataFile
    model: ModelFile
    evaluation: EvaluationFile
    protocol: ProtocolFile
    setting: SettingPart
    arms: dict[str, MethodPart]
    versions: dict[str, int]
    changes: Values = field(default_factory=dict)
    asked_otherwise: Values = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.data.title} on {self.model.title}"

    @property
    def paper(self) -> Values:
        """Average@16 that the paper's figure shows, in per cent, by arm."""
        return self.setting.paper


def recipe_names() -> list[str]:
    """Names of the ten recipes, in the order of the paper's figure."""
    return list(_settings().settings)


def recipes() -> list[Recipe]:
    """All recipes, in the order of the paper's figure."""
    return [recipe(name) for name in recipe_names()]


@cache
def recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ValueError: there is none; the message names the closest.
    """
    if name not in recipe_names():
        raise ValueError(f"no recipe {name!r}; {suggestion(name, recipe_names())}")
    setting = _settings().settings[name]
    data = read_part(FILES / "data" / f"{setting.data}.yaml", DataFile)
    model = read_part(FILES / "models" / f"{setting.model}.yaml", ModelFile)
    evaluation = read_part(FILES / "evaluation" / f"{data.evaluation}.yaml", EvaluationFile)
    protocol = read_part(FILES / "protocol.yaml", ProtocolFile)
    methods = read_part(FILES / "methods.yaml", MethodsFile)
    parts = {
        "settings": _settings(),
        f"data/{setting.data}": data,
        f"models/{setting.model}": model,
        f"evaluation/{data.evaluation}": evaluation,
        "methods": methods,
        "protocol": protocol,
    }
    versions = {file: part.recipe_version for file, part in parts.items()}
    return Recipe(name, data, model, evaluation, protocol, setting, methods.arms, versions)


@cache
def _settings() -> SettingsFile:
    return read_part(FILES / "settings.yaml", SettingsFile)


@cache
def shapes() -> ShapesFile:
    """Sizes of the models, by name."""
    return read_part(FILES / "shapes.yaml", ShapesFile)


def paper_figure(value: float, where: str) -> str:
    """A number of the paper, marked "=" if its text says it, "~" if the figure hides it partly, else with a space."""
    if "text" in where:
        return f"{value:g}="
    return f"{value:.1f}~" if "hidden" in where else f"{value:.1f}\N{NO-BREAK SPACE}"


def read_part(path: Path, schema: type[FileSchema]) -> FileSchema:
    """A recipe's file, checked.

    Raises:
        ValueError: a key is unknown or missing, or a value stands without its source; the message names file and key.
    """
    try:
        return schema(**read_yaml(path).values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ValueError(
            f"{path}: `{key}`: {first['msg']}. Every value is written as "
            '`{value: 2048, source: ancestor, where: "DFT README"}`.'
        ) from error
