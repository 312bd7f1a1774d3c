"""What a recipe's files may hold, as pydantic models. A value without its source is refused."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from qtarget.recipes.estimates import Shape

ValueOrigin = Literal["paper", "figure", "ancestor", "ours", "derived", "yours"]
ORIGINS: dict[ValueOrigin, str] = {
    "paper": "said by the Target-SFT paper (arXiv 2606.11189)",
    "figure": "read off that paper's figure",
    "ancestor": "what DFT (arXiv 2508.05629), BLL (2510.00526) or m1 (2504.00869) did; the paper does not say",
    "ours": "our choice; the paper does not say",
    "derived": "follows from other values",
    "yours": "given on the command line, for this run",
}
"""Where a value may come from. Only `paper` and `figure` are the paper's own."""


class Part(BaseModel):
    """Base of the parts: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourcedValue(Part):
    """A value, where it comes from, and the place in that source or the reason for the choice."""

    value: Any
    source: ValueOrigin
    where: Annotated[str, StringConstraints(min_length=1)]


Values = dict[str, SourcedValue]


class VersionedFile(Part):
    """recipe_version: raised whenever a value of the file changes."""

    recipe_version: int


class Launch(Part):
    """How a run is spread over GPUs. sharded: weights, gradients and optimizer are (FSDP2)."""

    rows_per_step: SourcedValue | None = None
    rows_per_gpu: SourcedValue | None = None
    gpus: SourcedValue | None = None
    sharded: SourcedValue | None = None


class ProtocolFile(VersionedFile):
    """`protocol.yaml`: what all recipes share. assumed: numbers of the estimates, such as a GPU's peak."""

    job: Values
    launch: Launch
    assumed: Values
    left_open: tuple[str, ...]


class EvaluationFile(VersionedFile):
    """`evaluation/`: tasks, and how they are asked. questions: of all tasks together, where that is known."""

    suite: str
    tasks: SourcedValue
    k: SourcedValue
    temperature: SourcedValue
    top_p: SourcedValue
    max_new_tokens: SourcedValue
    dtype: SourcedValue
    questions: SourcedValue | None = None
    left_open: tuple[str, ...] = ()


class DataFile(VersionedFile):
    """`data/`: a training set. evaluation: a file of `evaluation/`; rows: the file of invented rows in its format."""

    title: str
    job: Values
    launch: Launch = Launch()
    evaluation: str
    assumed: Values
    rows: str
    left_open: tuple[str, ...] = ()


class ModelFile(VersionedFile):
    """`models/`: a student and its teacher. shape, teacher_shape: names of their sizes in `shapes.yaml`."""

    title: str
    job: Values
    launch: Launch = Launch()
    shape: str
    teacher_shape: str
    left_open: tuple[str, ...] = ()


class MethodPart(Part):
    """An arm: one way of training. called: its name in the paper's figure; job: None for the model as it comes."""

    called: SourcedValue
    job: Values | None = None
    left_open: tuple[str, ...] = ()


class MethodsFile(VersionedFile):
    """`methods.yaml`: the arms of every recipe."""

    arms: dict[str, MethodPart]


class ShapesFile(VersionedFile):
    """`shapes.yaml`: sizes of models."""

    shapes: dict[str, Shape]


class SettingPart(Part):
    """A data set and a model, with what the paper's figure shows for them, in per cent by arm."""

    data: str
    model: str
    paper: Values
    job: Values = {}


class SettingsFile(VersionedFile):
    """`settings.yaml`: the ten recipes by name."""

    settings: dict[str, SettingPart]
