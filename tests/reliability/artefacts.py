"""Everything that runs leave behind, made once by the commands themselves, and what reads each of it next."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import chdir
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import datasets
import pytest
from evaluate.generators.cases import STUDENT, TEACHER
from job.command import Said
from job.conftest import CONFIG, spaced
from job.directories import link_into, model_directory, write_rows
from models.test_gguf import little_llama, write_gguf
from reliability.damages import Damage, added, mixed_up
from rich.progress import Progress
from safetensors.torch import load_file
from tiny_models import prompt_completion

from qtarget import lab
from qtarget.cli.main import main
from qtarget.lab.worlds import Model
from qtarget.models.gguf_file import _converted, checkpoint_folder
from qtarget.models.loading import causal_lm_from, tokenizer_of
from qtarget.study.tuned.design import TunedStudy
from qtarget.study.tuned.outcome import StudyRun, check_study_outcomes
from qtarget.study.tuned.runs import finished_run
from qtarget.study.tuned.settings import DEMO_SETTING
from qtarget.study.tuned.tuned_arms import COMMON

Command = Callable[..., Said]
FULL = ("train", "config.yaml", "--eval-dataset", "null", "--teacher", "null", "--eta", "null", "--method", "psft")
ADAPTER = (*FULL[:-1], "sft", "--use-peft", "--lora-target-modules", "all-linear", "--output-dir", "lora")
CACHE = ("teacher", "cache", "config.yaml", "--teacher-cache", "cache", "--cache-shard-tokens", "60")
FROM_CACHE = ("train", "config.yaml", "--teacher", "null", "--teacher-cache", "cache", "--output-dir", "cached")
TASK = "lab-weak-operator"
FEW = ("--task", TASK, "--limit", "3", "--k", "2", "--max-new-tokens", "8")
EVALUATE = ("eval", str(STUDENT), *FEW, "--base", str(TEACHER), "--out", "runs/one")

PROSE = {
    "README.md": "the model card, for people",
    "training.png": "a picture",
    "metrics.json": "figures for people and their scripts; nothing here reads them again",
    "train.yaml": "the run's configuration, to be run anew by its user",
    "trainer_state.json": "of a result: what was logged, for people and plots",
}
"""Files of a result that no model is loaded from, and what they are."""


@dataclass(frozen=True)
class Reading:
    """What reads an artefact next.

    Attributes:
        name: for messages.
        is_slow: whether CI leaves it out.
        read: reads it in a folder that is the working directory; what it makes of it, or what it said where it refused.
    """

    name: str
    read: Callable[[Command], str | Said]
    is_slow: bool = False


@dataclass(frozen=True)
class Artefact:
    """A folder that a run leaves.

    Attributes:
        home: a folder with the artefact and all that its readings need.
        place: of the artefact's files in it.
        twins: a folder with files of the same names; a file may be swapped with its twin there.
        mixed: what mixes it up with another artefact, by the name of the reading that is to find it.
        without_effect: files that no reading reads, by name, and why.
        left_out: parts of paths of what is another artefact's, or a log.
        optional: files that a folder may be without, by name, and what that means; their removal is not looked at.
    """

    home: Path
    place: str
    readings: tuple[Reading, ...]
    twins: str | None = None
    without_effect: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    optional: Mapping[str, str] = field(default_factory=dict)
    mixed: Mapping[str, tuple[Damage, ...]] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """Paths in `home`."""
        inside = sorted(path for path in (self.home / self.place).rglob("*") if path.is_file())
        names = [path.relative_to(self.home).as_posix() for path in inside if not path.name.startswith(".")]
        return [name for name in names if not any(part in name for part in self.left_out)]

    def twins_of(self, file: str) -> tuple[str, ...]:
        return () if self.twins is None else (file.replace(self.place, self.twins, 1),)


def quietly(*words: str) -> None:
    """A command that must succeed."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert not ended.value.code, words


def user_home(folder: Path) -> Path:
    """Models, rows and a configuration."""
    datasets.config.HF_DATASETS_CACHE = folder / ".cache"
    model_directory(folder / "qwen2", "qwen2", seed=1)
    model_directory(folder / "teacher", "qwen2", seed=2)
    write_rows(folder / "rows.jsonl", [spaced(row) for row in prompt_completion(16, seed=1)])
    prompt_completion(4, seed=2).to_parquet(folder / "eval.parquet")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    return folder


def of_home(folder: Path, home: Path) -> Path:
    folder.mkdir()
    link_into(folder, home)
    return folder


def trained(folder: Path, home: Path) -> dict[str, Artefact]:
    """Checkpoint and result of a run that trains all weights and keeps an old policy, and of one of an adapter."""
    made = {}
    for name, words, out in (("full", FULL, "out"), ("adapter", ADAPTER, "lora")):
        place = of_home(folder / name, home)
        with chdir(place):
            quietly(*words)
        named = Reading(
            "resume, by name", partial(resumed, (*words, "--resume-from-checkpoint", f"{out}/checkpoint-4"))
        )
        newest = Reading("resume", partial(resumed, (*words, "--resume-from-checkpoint")), name == "adapter")
        twin = f"{out}/checkpoint-2"
        mixed = {named.name: (mixed_up(f"{out}/checkpoint-4", twin),)}
        made[f"{name} checkpoint"] = Artefact(place, f"{out}/checkpoint-4", (named, newest), twin, mixed=mixed)
        used = Reading("eval", partial(evaluated, ("eval", out, *FEW, "--out", "runs/of-it")))
        made[f"{name} result"] = Artefact(place, out, (used,), twin, PROSE, ("/checkpoint-", ".log"))
    full, adapter = made["full result"], made["adapter result"]
    shutil.copytree(adapter.home / "lora", full.home / "lora", ignore=shutil.ignore_patterns("checkpoint-*"))
    files = ("adapter_config.json", "adapter_model.safetensors")
    mixed = {"eval": (added("out", "lora", *files), added("out", "lora", files[1]), *decoys(full.home))}
    return {**made, "full result": replace(full, mixed=mixed)}


def decoys(home: Path) -> list[Damage]:
    """Files beside a whole model that a loader would take in the place of its own."""
    (home / "decoys").mkdir()
    contents = {"model.safetensors.index.json": '{"metadata": {}, "weight_map": {}}', "chat_template.jinja": "x"}
    for name, content in contents.items():
        (home / "decoys" / name).write_text(content, encoding="utf-8")
    return [added("out", "decoys", name) for name in contents if not (home / "out" / name).exists()]


def resumed(words: tuple[str, ...], command: Command) -> str | Said:
    """Weights of a run that goes on."""
    out = Path("lora" if "lora" in words else "out")
    for name in ("model.safetensors", "adapter_model.safetensors", "config.json"):
        (out / name).unlink(missing_ok=True)
    said = command(*words)
    return said if said.code else weights_in(out)


def weights_in(folder: Path) -> str:
    (file,) = [*folder.glob("model.safetensors"), *folder.glob("adapter_model.safetensors")]
    named = sorted(load_file(file).items())
    return digest(b"".join(name.encode() + weight.numpy().tobytes() for name, weight in named))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def evaluated(words: tuple[str, ...], command: Command, measured: tuple[str, ...] = ("effects.json",)) -> str | Said:
    """Samples and results of an evaluation, and what else it measured."""
    said = command(*words)
    if said.code:
        return said
    out = Path(words[-1])
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    del results["notices"]
    files = [out / TASK / "samples.jsonl", *(out / name for name in measured if (out / name).is_file())]
    lines = b"".join(b"\n".join(sorted(file.read_bytes().splitlines())) for file in files)
    return digest(lines + json.dumps([results["tasks"], results["generation"]]).encode())


def teacher_cache(folder: Path, home: Path) -> Artefact:
    place = of_home(folder / "cache", home)
    with chdir(place):
        quietly(*CACHE)
        quietly(*CACHE[:4], "other", *CACHE[5:], "--cache-dtype", "float32")
    first = ("shard-00000.safetensors", "shard-00000.json")
    mixed = {
        "verify": (mixed_up("cache", "other", *first),),
        "train": (mixed_up("cache", "other", *first),),  # a whole cache of the rows is one, at whatever precision
        "teacher cache": (mixed_up("cache", "other"), mixed_up("cache", "other", *first)),
    }
    readings = (
        Reading("verify", verified),
        Reading("train", trained_from_cache, True),
        Reading("teacher cache", written_again),
    )
    return Artefact(place, "cache", readings, "other", mixed=mixed)


def verified(command: Command) -> str | Said:
    said = command("teacher", "verify", "cache", "--json")
    return said if said.code else said.out


def trained_from_cache(command: Command) -> str | Said:
    said = command(*FROM_CACHE)
    return said if said.code else weights_in(Path("cached"))


def written_again(command: Command) -> str | Said:
    said = command(*CACHE)
    whole = (path for path in sorted(Path("cache").glob("shard-*.safetensors")))
    return said if said.code else digest(b"".join(path.read_bytes() for path in whole))


def evaluation(folder: Path) -> Artefact:
    """An evaluation with effects, beside another one to be compared with."""
    place = folder / "evaluation"
    place.mkdir()
    with chdir(place):
        quietly(*EVALUATE)
        quietly("eval", str(TEACHER), *FEW, "--base", str(STUDENT), "--out", "runs/other")
    again = (*EVALUATE[:-4], "--regrade", *EVALUATE[-2:])
    readings = (
        Reading("compare", compared),
        Reading("eval", partial(evaluated, EVALUATE)),
        Reading("regrade", partial(evaluated, again, measured=())),
    )
    task, samples = (
        mixed_up("runs/one", "runs/other", TASK),
        mixed_up("runs/one", "runs/other", f"{TASK}/samples.jsonl"),
    )
    mixed = {
        "compare": (task, samples, mixed_up("runs/one", "runs/other", "run.json", "effects.json")),
        "regrade": (task, samples),
    }
    reason = {"results.json": "written anew by each eval; nothing reads it"}
    optional = {"effects.json": "a comparison has the effects of folders that measured them"}
    return Artefact(place, "runs/one", readings, "runs/other", reason, (), optional, mixed)


def compared(command: Command) -> str | Said:
    said = command("compare", "runs/one", "runs/other", "--json")
    return said if said.code else said.out


SMALL = TunedStudy((DEMO_SETTING,), development=2, test=3, samples=2)
RUNS = [
    StudyRun("small", method, {}, 0.0, 0, seed, "test", 0, (COMMON,))
    for method in ("base", "teacher")
    for seed in (0, 1)
]
"""Models as they come, which take no training."""


def study(folder: Path) -> Artefact:
    """Outcomes of a study."""
    place = folder / "study"
    place.mkdir()
    with chdir(place):
        summarised(quietly)
    return Artefact(place, "results", (Reading("study", summarised),))


def summarised(command: Command) -> str | Said:
    """What a study concludes from its runs, of which it makes those that are missing."""
    try:
        outcomes = [finished_run(run, DEMO_SETTING, SMALL, Path("models"), Path("results")) for run in RUNS]
        check_study_outcomes(Path("results"))
    except ValueError as refused:
        return Said(2, "", str(refused))
    return repr([replace(outcome, seconds=0.0) for outcome in outcomes])


def lab_model(folder: Path) -> Artefact:
    """A student that a study pre-trains."""
    place = folder / "lab"
    world = lab.world("strong-prior")
    model = replace(world.student, width=16, layers=1, heads=2, feed_forward=16, school_steps=1, steps=1)
    with Progress(disable=True) as progress:
        lab.build_model(model, "student", 0, place / "student", progress)
        lab.build_model(replace(model, steps=2), "student", 0, place / "other", progress)
    reason = {"build.json": "says what was asked for, which building it again asks for anew"}
    readings = Reading("load", loaded), Reading("build", partial(built, model))
    all_but_record = [path.name for path in (place / "student").iterdir() if path.name != "build.json"]
    mixed = {"build": (mixed_up("student", "other"), mixed_up("student", "other", *all_but_record))}
    return Artefact(place, "student", readings, "other", reason, mixed=mixed)


def built(model: Model, command: Command) -> str | Said:
    """The weights after it was asked for again."""
    try:
        with Progress(disable=True) as progress:
            lab.build_model(model, "student", 0, Path("student"), progress)
    except ValueError as refused:
        return Said(2, "", str(refused))
    return loaded(command)


def loaded(command: Command) -> str | Said:
    try:
        return weights_of(lab.load(Path("student").absolute()))
    except ValueError as refused:
        return Said(2, "", str(refused))


def weights_of(model) -> str:
    named = sorted(model.state_dict().items())
    return digest(b"".join(name.encode() + weight.numpy().tobytes() for name, weight in named))


def conversion(folder: Path) -> Artefact:
    """The folder that a GGUF file was converted into, and that of another file."""
    place = folder / "gguf"
    place.mkdir()
    other = little_llama()
    other.lm_head.weight.data.mul_(0.5)
    write_gguf(place / "other.gguf", other)
    write_gguf(place / "model.gguf", little_llama())
    with chdir(place), pytest.MonkeyPatch.context() as patch:
        patch.setenv("QTARGET_CACHE", "cache")
        one, two = (f"cache/gguf/{Path(checkpoint_folder(name)).name}" for name in ("model.gguf", "other.gguf"))
    mixed = {"load": (mixed_up(one, two),)}
    return Artefact(place, one, (Reading("load", opened),), two, mixed=mixed)


def opened(command: Command) -> str | Said:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QTARGET_CACHE", "cache")
        _converted.cache_clear()
        try:
            model, tokenizer = causal_lm_from("model.gguf", {}), tokenizer_of("model.gguf")
        except ValueError as refused:
            return Said(2, "", str(refused))
    ends = json.dumps(
        [model.generation_config.eos_token_id, sorted(tokenizer.get_vocab().items()), tokenizer.chat_template]
    )
    return weights_of(model) + digest(ends.encode())


def every_artefact(folder: Path) -> dict[str, Artefact]:
    """All of them, by name."""
    (folder / "home").mkdir()
    home = user_home(folder / "home")
    return {
        **trained(folder, home),
        "teacher cache": teacher_cache(folder, home),
        "evaluation": evaluation(folder),
        "study": study(folder),
        "lab model": lab_model(folder),
        "conversion": conversion(folder),
    }


def copied(artefact: Artefact, folder: Path) -> Path:
    """A copy of an artefact's home, models and rows by link."""
    return shutil.copytree(artefact.home, folder, symlinks=True)
