"""The protocol of the study on real models: a YAML file that is fixed before the first unit is run."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import qtarget as qt
from qtarget.data import Asker
from qtarget.data.user_files.yaml_file import read_yaml
from qtarget.target.hyperparameters import HyperparameterError

WHOLE_PROTOCOL, QUICK_PROTOCOL = "whole", "quick"
BASELINE_ARM, TEACHER_ARM = "base", "teacher"
"""Names under which the student as it comes, and its teacher, stand beside the arms."""


class _Strict(BaseModel):
    """Base of the protocol's parts: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RealDecoding(_Strict):
    """How answers are drawn: k of each question. Temperature 0 is the likeliest answer, once."""

    k: Annotated[int, Field(ge=1)]
    temperature: Annotated[float, Field(ge=0)]
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0


class TrainedArm(_Strict):
    """An arm: a method of the catalogue with its hyperparameters (`values`), under a name."""

    name: str
    method: str
    values: dict[str, float] = {}

    @property
    def needs_teacher(self) -> bool:
        return "teacher" in qt.method(self.method, **self.values).needs


class RowPlan(_Strict):
    """Where rows and questions come from, and how many of each there are.

    Attributes:
        source: "reasoning-gym", "sums" (made here), or a data set on the hub with rows as GSM8K has them.
        tasks: of reasoning-gym, with the settings of each; as many rows of every one.
        seed: of the choice and order of rows, and of what is wrong in them.
        train, teacher: rows that the student and its teacher learn; the teacher's are always right.
        development, test: questions that rates are chosen on, and that results are reported on.
        wrong_share: of the student's rows, those whose answer is made wrong in one digit.
    """

    source: str
    tasks: dict[str, dict[str, Any]] = {}
    seed: int = 0
    train: Annotated[int, Field(ge=1)]
    teacher: Annotated[int, Field(ge=0)] = 0
    development: Annotated[int, Field(ge=0)] = 0
    test: Annotated[int, Field(ge=1)]
    wrong_share: Annotated[float, Field(ge=0, le=1)] = 0.0


class RealSetting(_Strict):
    """A student, its teacher, and what it learns.

    Attributes:
        student, teacher: names on the hub, for which a folder or a GGUF file may be given. Where no teacher is named,
            the student is fine-tuned on right rows of its own (`RowPlan.teacher`) to be one.
        prompt, grade, max_new_tokens: of `qtarget eval`; the prompt is that of training too.
        training: keys of `qtarget train` that all arms share.
        teacher_training: keys over these, for the training of a teacher that is not named.
        rates: learning rates that every arm is tried at, on the development questions.
        seeds: of the trainings; answers are drawn from the same.
        teacher_decodings: those that the teacher answers the test questions at.
        minutes: how long a unit of a kind is expected to take on one core, until some have been run.
    """

    name: str
    student: str
    teacher: str = ""
    rows: RowPlan
    prompt: str
    grade: str
    max_new_tokens: int
    training: dict[str, Any]
    teacher_training: dict[str, Any] = {}
    rates: Annotated[tuple[float, ...], Field(min_length=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    teacher_decodings: tuple[str, ...] = ()
    minutes: dict[str, float] = {}


class RealProtocol(_Strict):
    """What the study asks: decodings, arms, and the settings in which every arm is trained.

    Attributes:
        decodings: by name; every arm answers the test questions at each.
        tuned_at: the decoding at which rates are chosen, with `tuning_k` answers to a question.
        token_rows: rows whose tokens are looked at.
        effect_prompts: number of prompts on which forgetting is measured, for the first seed; calibration is measured
            with it, on the rows of the test. 0: neither is measured.
    """

    name: str
    question: str
    decodings: dict[str, RealDecoding]
    tuned_at: str
    tuning_k: int = 2
    token_rows: int = 24
    effect_prompts: int = 0
    arms: tuple[TrainedArm, ...]
    settings: Annotated[tuple[RealSetting, ...], Field(min_length=1)]

    def setting(self, name: str) -> RealSetting:
        return next(each for each in self.settings if each.name == name)

    def arm(self, name: str) -> TrainedArm:
        return next(each for each in self.arms if each.name == name)

    @property
    def arm_names(self) -> tuple[str, ...]:
        """The student as it comes, and the trained arms."""
        return (BASELINE_ARM, *(arm.name for arm in self.arms))


def read_protocol(name: str) -> RealProtocol:
    """The protocol "whole" or "quick" of the package, or one in a YAML file.

    Raises:
        ValueError: no such protocol; an unknown or a missing key; an unknown method or hyperparameter.
    """
    shipped = name in (WHOLE_PROTOCOL, QUICK_PROTOCOL)
    path = Path(str(files("qtarget.study.real_models") / f"{name}.yaml")) if shipped else Path(name)
    if not path.is_file():
        raise ValueError(f"{name} is no protocol; write --protocol whole, quick, or a file such as mine.yaml.")
    try:
        protocol = RealProtocol(**read_yaml(path).values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path}: `{where}`: {first['msg'].lower()}.") from error
    _check_names(protocol, path)
    return protocol


def _check_names(protocol: RealProtocol, path: Path) -> None:
    for arm in protocol.arms:
        try:
            qt.method(arm.method, **arm.values)
        except HyperparameterError as error:
            raise ValueError(f"{path}: {error.told(Asker.COMMAND_LINE.setting)}.") from error
    wanted = {protocol.tuned_at, *(name for setting in protocol.settings for name in setting.teacher_decodings)}
    if unknown := sorted(wanted - protocol.decodings.keys()):
        raise ValueError(f"{path} names the decoding {unknown[0]!r}; it has {', '.join(protocol.decodings)}.")
    for names in (list(protocol.arm_names), [setting.name for setting in protocol.settings]):
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{path} has {twice[0]!r} twice; give one of the two another name.")
