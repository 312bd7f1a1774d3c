"""From a recipe's files to each arm's configuration, and to the sizes its cost is estimated from."""

from typing import Any

import qtarget as qt
from qtarget.evaluate.tasks import TASKS
from qtarget.recipes.changes import changes_for
from qtarget.recipes.estimates import GenerationLoad, Workload
from qtarget.recipes.recipe_files import Recipe, shapes
from qtarget.recipes.schema import Launch, MethodPart, SourcedValue, Values
from qtarget.target.hyperparameters import suggestion


def arm_of(recipe: Recipe, name: str) -> MethodPart:
    """The arm of a name.

    Raises:
        ValueError: there is none; the message names the closest.
    """
    if name not in recipe.arms:
        raise ValueError(f"no method {name!r} in the recipes; {suggestion(name, recipe.arms)}")
    return recipe.arms[name]


def trained_arms(recipe: Recipe) -> list[str]:
    """Names of the arms that are trained: all but the model as it comes."""
    return [name for name, part in recipe.arms.items() if part.job is not None]


def resolved_values(recipe: Recipe, arm: str, gpus: int | None = None) -> Values:
    """The keys of `qtarget train` for an arm, each with its source.

    Where several files give a key, the most specific one holds: arm, setting, model, data, protocol. A user's change
    holds above all.

    Args:
        gpus: number that a step's rows are spread over; None for the recipe's own.

    Raises:
        ValueError: no such arm, one that is not trained, or GPUs that do not divide the rows of a step.
    """
    part = arm_of(recipe, arm)
    if part.job is None:
        raise ValueError(f"{arm!r} is the model as it comes: it is evaluated, and not trained.")
    layers = (recipe.protocol.job, recipe.data.job, recipe.model.job, recipe.setting.job, part.job)
    values = {key: value for layer in layers for key, value in layer.items()}
    if not needs_teacher(part):
        del values["teacher"]
    first = ("model", "teacher", *part.job)
    ordered = {key: values[key] for key in (*(k for k in first if k in values), *values)}
    changes = changes_for(recipe, part, needs_teacher(part))
    return {**ordered, **_batch(launch_of(recipe), gpus), **changes}


def needs_teacher(part: MethodPart) -> bool:
    """Whether an arm's method reads a teacher."""
    return part.job is not None and "teacher" in qt.method(str(part.job["method"].value)).needs


def launch_of(recipe: Recipe) -> dict[str, SourcedValue]:
    """How the recipe is spread over GPUs. Where several files say so, the model's holds, then the data's."""
    launch: dict[str, SourcedValue] = {}
    for part in (recipe.protocol.launch, recipe.data.launch, recipe.model.launch):
        launch |= {name: value for name in Launch.model_fields if (value := getattr(part, name)) is not None}
    return launch


def _batch(launch: dict[str, SourcedValue], gpus: int | None) -> Values:
    rows, per_step = int(launch["rows_per_gpu"].value), int(launch["rows_per_step"].value)
    number = gpus_of(launch, gpus)
    if per_step % (rows * number):
        raise ValueError(
            f"{per_step} rows a step cannot be spread over {number} GPUs of {rows} rows at a time; write a power "
            "of two, as `--gpus 8`."
        )
    where = f"{per_step} rows a step / ({number} GPUs x {rows} rows)"
    return {
        "per_device_train_batch_size": launch["rows_per_gpu"],
        "gradient_accumulation_steps": SourcedValue(value=per_step // (rows * number), source="derived", where=where),
    }


def gpus_of(launch: dict[str, SourcedValue], gpus: int | None) -> int:
    """The number of GPUs: as given, or the recipe's own."""
    return int(launch["gpus"].value) if gpus is None else gpus


def spreads_models(launch: dict[str, SourcedValue], gpus: int | None) -> bool:
    """Whether models are sharded over the GPUs (FSDP2): where the recipe says so, and there are several."""
    return gpus_of(launch, gpus) > 1 and "sharded" in launch and bool(launch["sharded"].value)


def without_sources(values: Values) -> dict[str, Any]:
    """Keys and values without their sources."""
    return {key: value.value for key, value in values.items()}


def workload_of(recipe: Recipe, arm: str, gpus: int | None = None) -> Workload:
    """The sizes that an arm's cost is estimated from."""
    values, launch, assumed = resolved_values(recipe, arm, gpus), launch_of(recipe), recipe.protocol.assumed
    rows, per_row = (float(recipe.data.assumed[name].value) for name in ("rows", "tokens_per_row"))
    sizes = shapes().shapes
    return Workload(
        student=sizes[recipe.model.shape],
        teacher=sizes[recipe.model.teacher_shape] if "teacher" in values else None,
        tokens=int(rows * per_row * values["num_train_epochs"].value),
        rows=int(values["per_device_train_batch_size"].value),
        length=int(values["max_length"].value),
        gpus=gpus_of(launch, gpus),
        sharded=spreads_models(launch, gpus),
        flops=1e12 * float(assumed["tflops"].value),
        utilization=float(assumed["utilization"].value),
    )


def generation_of(recipe: Recipe, generator: str) -> GenerationLoad | None:
    """What the hours of an arm's evaluation with a generator are estimated from; None where no set's size is known."""
    asked, assumed = recipe.evaluation, recipe.protocol.assumed
    questions = asked.questions.value if asked.questions else sum(TASKS[name].rows or 0 for name in asked.tasks.value)
    if not questions:
        return None
    return GenerationLoad(
        model=shapes().shapes[recipe.model.shape],
        answers=int(asked.k.value) * questions,
        length=int(asked.max_new_tokens.value),
        at_once=int(assumed["answers_at_once"].value[generator]),
        layer_seconds=float(assumed["layer_seconds"].value[generator]),
        bandwidth=1e12 * float(assumed["terabytes_per_second"].value) * float(assumed["bandwidth_reached"].value),
    )


def unknown_sets(recipe: Recipe) -> list[str]:
    """The sets whose number of questions is not known, which an estimate of evaluation leaves out."""
    asked = recipe.evaluation
    return [] if asked.questions else [name for name in asked.tasks.value if TASKS[name].rows is None]


def left_open(recipe: Recipe) -> list[str]:
    """Sentences on what the paper does not say about this setting, or could not be read."""
    parts = (recipe.protocol, recipe.data, recipe.model, recipe.evaluation, *recipe.arms.values())
    return list(dict.fromkeys(line for part in parts for line in part.left_open))
