"""Building a world's models: repeatable by seed, resumed where it stopped, rebuilt when settings change."""

import shutil
from dataclasses import replace

import pytest
import torch
from rich.progress import Progress
from transformers import AutoModelForCausalLM

from qtarget import lab
from qtarget.lab.pretrain import make_network


@pytest.fixture
def tiny_world():
    world = lab.world("strong-prior")
    student = replace(world.student, width=16, layers=1, heads=2, feed_forward=16, school_steps=1, steps=1)
    return replace(world, student=student, teacher=replace(student, steps=2))


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_one_seed_gives_one_pair_of_models(tiny_world, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        torch.seed()  # the caller's random state has no say
        lab.build(tiny_world, seed, tmp_path / name)
    for part in ("student", "teacher"):
        assert weights(tmp_path / "a" / part) == weights(tmp_path / "b" / part)
        assert weights(tmp_path / "a" / part) != weights(tmp_path / "c" / part)


def test_building_trains_and_leaves_the_callers_random_state_alone(tiny_world, tmp_path):
    torch.manual_seed(5)
    untrained = make_network(tiny_world.student)
    state = torch.get_rng_state()
    lab.build(tiny_world, 5, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    change = (trained.lm_head.weight - untrained.lm_head.weight).abs().mean()
    assert change > 1e-4  # storing them in half precision moves such weights by a tenth of that


def test_a_finished_model_is_kept_and_an_unfinished_damaged_or_changed_one_is_built_again(tiny_world, tmp_path):
    lab.build(tiny_world, 5, tmp_path)
    student, finished = tmp_path / "student" / "model.safetensors", weights(tmp_path / "student")
    written = student.stat()
    (tmp_path / "teacher" / "build.json").unlink()
    (tmp_path / "teacher" / "model.safetensors").write_bytes(b"half")
    lab.build(tiny_world, 5, tmp_path)
    assert (student.stat().st_ino, student.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert weights(tmp_path / "teacher") != b"half"
    student.write_bytes(b"damaged")
    lab.build(tiny_world, 5, tmp_path)
    assert weights(tmp_path / "student") == finished
    changed = replace(tiny_world, student=replace(tiny_world.student, steps=3))
    lab.build(changed, 5, tmp_path)
    assert weights(tmp_path / "student") != finished


def test_weights_of_another_build_under_this_ones_record_are_built_again(tiny_world, tmp_path):
    lab.build(tiny_world, 5, tmp_path)
    finished = weights(tmp_path / "student")
    shutil.copy(tmp_path / "student" / "build.json", tmp_path)
    shutil.rmtree(tmp_path / "student")
    shutil.copytree(tmp_path / "teacher", tmp_path / "student")
    shutil.move(tmp_path / "build.json", tmp_path / "student" / "build.json")
    lab.build(tiny_world, 5, tmp_path)
    assert weights(tmp_path / "student") == finished


def test_progress_reaches_the_callers_display(tiny_world, tmp_path):
    with Progress(disable=True) as progress:
        lab.build(tiny_world, 5, tmp_path, progress)
    assert [(task.completed, task.total) for task in progress.tasks] == [(2, 2), (3, 3)]
