"""What a recipe's files may hold. Every value says where it comes from; one that does not is refused."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from qtarget.recipes.estimates import Shape

Origin = Literal["paper", "figure", "ancestor", "ours", "derived"]
ORIGINS: dict[Origin, str] = {
    "paper": "said by the Target-SFT paper (arXiv 2606.11189)",
    "figure": "read off that paper's figure",
    "ancestor": "what DFT (arXiv 2508.05629), BLL (2510.00526) or m1 (2504.00869) did; the paper does not say",
    "ours": "our choice; the paper does not say",
    "derived": "follows from other values",
}
"""Where a value may come from. Only `paper` and `figure` are the paper's own."""


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sourced(Part):
    """A value, where it comes from, and the place in that source or the reason for the choice."""

    value: Any
    source: Origin
    where: Annotated[str, StringConstraints(min_length=1)]


Values = dict[str, Sourced]


class Versioned(Part):
    """recipe_version: raised whenever a value of the file changes."""

    recipe_version: int


class Launch(Part):
    """How a run is spread. sharded: weights, gradients and optimizer cut over the GPUs."""

    rows_per_step: Sourced | None = None
    rows_per_gpu: Sourced | None = None
    gpus: Sourced | None = None
    sharded: Sourced | None = None


class ProtocolFile(Versioned):
    job: Values
    launch: Launch
    assumed: Values
    left_open: tuple[str, ...]


class Evaluation(Versioned):
    """Which tasks are asked, and how. questions: of all tasks, where that is known."""

    suite: str
    tasks: Sourced
    k: Sourced
    temperature: Sourced
    top_p: Sourced
    max_new_tokens: Sourced
    dtype: Sourced
    questions: Sourced | None = None
    left_open: tuple[str, ...] = ()


class DataFile(Versioned):
    """A training set. evaluation: a file of `evaluation/`; rows: the file of invented rows in its format."""

    title: str
    job: Values
    launch: Launch = Launch()
    evaluation: str
    assumed: Values
    rows: str
    left_open: tuple[str, ...] = ()


class ModelFile(Versioned):
    """A student and its teacher, with their sizes by their names in `shapes.yaml`."""

    title: str
    job: Values
    launch: Launch = Launch()
    shape: str
    teacher_shape: str
    left_open: tuple[str, ...] = ()


class MethodPart(Part):
    """An arm. called: its name in the paper's figure; job: None for the model as it comes."""

    called: Sourced
    job: Values | None = None
    left_open: tuple[str, ...] = ()


class MethodsFile(Versioned):
    arms: dict[str, MethodPart]


class ShapesFile(Versioned):
    shapes: dict[str, Shape]


class SettingPart(Part):
    """A data set and a model, with what the paper's figure shows for them, in per cent by arm."""

    data: str
    model: str
    paper: Values
    job: Values = {}


class SettingsFile(Versioned):
    settings: dict[str, SettingPart]
