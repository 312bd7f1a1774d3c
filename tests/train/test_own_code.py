"""Functions and objects of a user's own are part of what a run is: another function by the same name is another run."""

import functools
import random
import sys
import threading
import types

import pytest
import tiny_models
import torch
from datasets import Dataset
from train import parity
from transformers import EarlyStoppingCallback, TrainerCallback
from trl import BEMACallback

import qtarget as qt
from qtarget import Sparse, trust
from qtarget.train import TargetSFTConfig, TargetSFTTrainer
from qtarget.train.resumption.own_code import Content

RATE = 1.0


def potential(floor):
    return lambda logp, logp_y, is_label: torch.where(logp < floor, -torch.inf, 0.0)


def cautious(floor=-6.0, power=1.0):
    sure = trust.label_probability(power)
    return qt.Method(
        name="cautious", trust=sure, residual=((1 - sure, qt.Pool(teachers=(1.0,), potential=potential(floor))),)
    )


def weighing(power):
    rule = qt.types.Rule("mine", (qt.statistics.LOGP_Y,), lambda logp: (power * logp).exp())
    return qt.Method(name="mine", trust=1.0, scale=rule)


class Likeliest:
    """A teacher of the user's own."""

    def __init__(self, share, generator=None):
        self.share, self.generator = share, generator

    def evidence(self, inputs, labels):
        ids = labels.clamp(min=0).roll(-1, 1)[..., None]
        logp, rest = torch.full(labels.shape, self.share).log(), torch.full(labels.shape, 1 - self.share).log()
        return Sparse(ids, logp[..., None], rest)


class Gains(TrainerCallback):
    """A callback of the user's own."""


def trainer(folder, *, model=None, optimizer=None, schedule=None, **given):
    model = model or tiny_models.tiny_model()
    if optimizer is not None:
        optimizer = optimizer(model.parameters())
        schedule = schedule and schedule(optimizer)
    names = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 2}
    keys = {} if "method" in given else {"method": "sft"}
    return TargetSFTTrainer(
        model,
        TargetSFTConfig(**keys, **parity.common_args(output_dir=str(folder), **names, **given.pop("args", {}))),
        train_dataset=Dataset.from_list(tiny_models.token_rows(8)),
        processing_class=tiny_models.tiny_tokenizer(),
        **({} if optimizer is None else {"optimizers": (optimizer, schedule)}),
        **given,
    )


def refusal(folder, first, second):
    """What is said to the second run that goes on from the first; the first one is gone on from as itself."""
    trainer(folder, **first()).train()
    step = str(folder / "checkpoint-1")
    trainer(folder / "same", **first()).train(resume_from_checkpoint=step)
    with pytest.raises(ValueError, match="of another run") as refused:
        trainer(folder / "other", **second()).train(resume_from_checkpoint=step)
    return str(refused.value)


def sgd(**changes):
    return functools.partial(torch.optim.SGD, **{"lr": 0.1, **changes})


def slope(base):
    return lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: base**step)


def halved(every):
    return lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, every)


def teacher(share=0.5):
    return {"method": cautious(), "teacher": Likeliest(share)}


def accuracy(weight):
    return lambda predicted: {"mine": weight}


def scheduled(base):
    return {"optimizer": sgd(), "schedule": slope(base)}


OTHERS = {
    "schedule": (lambda: scheduled(0.5), lambda: scheduled(2.0)),
    "potential": (teacher, lambda: {**teacher(), "method": cautious(-60.0)}),
    "rule": (lambda: {"method": weighing(1.0)}, lambda: {"method": weighing(2.0)}),
    "library's rule": (teacher, lambda: {**teacher(), "method": cautious(power=1.00000001)}),
    "evidence": (teacher, lambda: teacher(0.25)),
}


@pytest.mark.failure_case(24)
@pytest.mark.parametrize("name", OTHERS)
def test_a_run_with_another_function_of_ones_own_is_refused(tmp_path, name):
    said = refusal(tmp_path, *OTHERS[name])
    place = {"schedule": "lr_scheduler", "evidence": "teacher 0"}.get(name, "method")
    assert f"  code.{place}: Python 3." in said, said
    assert "resume_changed=['code']" in said


@pytest.mark.failure_case(24)
def test_numbers_of_an_optimizer_and_a_schedule_that_were_given_are_compared(tmp_path):
    said = refusal(tmp_path / "a", lambda: {"optimizer": sgd()}, lambda: {"optimizer": sgd(lr=0.2, momentum=0.9)})
    assert "optimizer_settings.group 0.lr: 0.1 then, 0.2 now" in said
    assert "optimizer_settings.group 0.momentum: 0 then, 0.9 now" in said
    assert "The checkpoint decides optimizer_settings" in said
    first, second = ({"optimizer": sgd(), "schedule": halved(every)} for every in (1, 2))
    said = refusal(tmp_path / "b", lambda: first, lambda: second)
    assert "lr_scheduler.step_size: 1 then, 2 now" in said
    assert "The checkpoint decides lr_scheduler" in said


@pytest.mark.failure_case(24)
def test_what_measures_and_what_ends_a_run_is_compared(tmp_path):
    def measured(folder, weight, patience):
        best = {"metric_for_best_model": "eval_loss", "load_best_model_at_end": True}
        return trainer(
            folder,
            args={"eval_strategy": "steps", "eval_steps": 1, **best},
            eval_dataset=tiny_models.token_rows(2),
            compute_metrics=accuracy(weight),
            callbacks=[EarlyStoppingCallback(patience)],
        )

    measured(tmp_path, 1.0, 3).train()
    with pytest.raises(ValueError, match="of another run") as refused:
        measured(tmp_path, 2.0, 4).train(resume_from_checkpoint=True)
    assert "code.compute_metrics: " in str(refused.value)
    assert "code.EarlyStoppingCallback: " in str(refused.value)


@pytest.mark.failure_case(24)
def test_what_cannot_be_looked_into_is_named(tmp_path):
    def given():
        return {"method": cautious(), "teacher": Likeliest(0.5, random.Random()), "callbacks": [Gains()]}

    run = trainer(tmp_path, **given())
    run.train()
    known = r"Not compared with the run that wrote .*: a random.Random \(teacher 0\), the callback .*\.Gains\."
    with pytest.warns(UserWarning, match=known):
        trainer(tmp_path / "x", **given()).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert len(run.sealed_run.identity["not_compared"]) == 2


@pytest.mark.failure_case(24)
def test_a_librarys_callback_whose_state_is_in_no_checkpoint_is_named(tmp_path):
    def averaging(folder):
        return trainer(folder, callbacks=[BEMACallback(update_freq=1)])

    run = averaging(tmp_path)
    run.train()
    known = r"Not compared with the run that wrote .*: the callback .*\.BEMACallback, whose state no checkpoint holds\."
    with pytest.warns(UserWarning, match=known):
        averaging(tmp_path / "x").train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert len(run.sealed_run.identity["not_compared"]) == 1


def unseen(value):
    return Content(value, {}).unseen


def equal(first, second):
    return Content(first, {}).digest == Content(second, {}).digest


def reading(step):
    return RATE * step


def test_code_values_and_globals_of_a_function_are_its_content(monkeypatch):
    made = [lambda x, by=by: x * by for by in (1, 1, 2)]
    assert equal(made[0], made[1])
    assert not equal(made[0], made[2])
    assert not equal(lambda x: x + 1, lambda x: x + 2)
    assert not equal(lambda x: [y + 1 for y in x], lambda x: [y + 2 for y in x])
    assert not equal(functools.partial(reading, 1), functools.partial(reading, 2))
    before = Content(reading, {}).digest
    monkeypatch.setitem(globals(), "RATE", 2.0)
    assert Content(reading, {}).digest != before


WAYS = {
    "global": "import mine_{0}\ndef potential(x):\n    return mine_{0}.likely(x)\n",
    "alias": "import mine_{0} as own\ndef potential(x):\n    return [own.likely(each) for each in x]\n",
    "value": "import mine_{0}\ndef potential(x):\n    return x < mine_{0}.FLOOR\n",
    "package": "import pack_{0}.mine\ndef potential(x):\n    return pack_{0}.mine.likely(x)\n",
    "inside": "def potential(x):\n    import mine_{0}\n    return mine_{0}.likely(x)\n",
    "inside, from": "def potential(x):\n    from mine_{0} import likely as own\n    return own(x)\n",
    "closure": "import mine_{0}\ndef made(own):\n    return lambda x: own.likely(x)\npotential = made(mine_{0})\n",
}


@pytest.mark.failure_case(24)
@pytest.mark.parametrize("way", WAYS)
def test_what_a_function_reads_of_a_module_of_ones_own_is_its_content(tmp_path, monkeypatch, way):
    """And nothing else of the module, where a count or a cache may stand."""
    monkeypatch.syspath_prepend(tmp_path)
    name = "".join(filter(str.isalpha, way))

    def digest(floor, count=0):
        text = f"FLOOR, COUNT = {floor}, {count}\ndef likely(x):\n    return x < FLOOR\n"
        (tmp_path / f"pack_{name}").mkdir(exist_ok=True)
        for each in (f"mine_{name}", f"pack_{name}.mine"):
            module = sys.modules.setdefault(each, types.ModuleType(each))
            module.__file__ = str(tmp_path / "mine.py")
            exec(text, vars(module))
        package = sys.modules.setdefault(f"pack_{name}", types.ModuleType(f"pack_{name}"))
        package.__path__ = [str(tmp_path / f"pack_{name}")]
        package.mine = sys.modules[f"pack_{name}.mine"]
        there = {"__name__": f"script_{name}"}
        exec(WAYS[way].format(name), there)
        content = Content(there["potential"], {})
        assert content.unseen == []
        return content.digest

    try:
        assert digest(-6.0) == digest(-6.0, count=1)
        assert digest(-6.0) != digest(-60.0)
    finally:
        for each in (f"mine_{name}", f"pack_{name}.mine", f"pack_{name}"):
            sys.modules.pop(each, None)


def test_a_module_of_ones_own_that_no_function_says_what_it_reads_of_is_named():
    own = types.ModuleType("mine_elsewhere")
    assert unseen(Likeliest(own)) == ["the module mine_elsewhere"]
    assert unseen(Likeliest(torch)) == []


def test_the_state_of_an_object_is_its_content():
    def holding(value):
        return Likeliest(value)

    pairs = [(torch.ones(2), torch.zeros(2)), ({1, 2}, {1, 3}), ({"a": 1}, {"a": 2}), ([1], (1,)), (1, 1.0)]
    for first, second in pairs:
        assert equal(holding(first), holding(first))
        assert not equal(holding(first), holding(second))
    assert equal(holding({"a": 1, "b": 2}), holding({"b": 2, "a": 1}))
    mine = Likeliest(0.5)
    mine.share = mine  # it holds itself
    assert unseen(mine) == []
    assert unseen(holding(threading.Lock())) == ["a _thread.lock"]
    model, other = tiny_models.tiny_model(seed=1), tiny_models.tiny_model(seed=2)
    assert not equal(holding(model), holding(other))
    assert equal(holding(model), holding(tiny_models.tiny_model(seed=1)))
