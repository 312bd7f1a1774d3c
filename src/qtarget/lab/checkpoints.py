"""The students, teachers and tokenizers that ship with the package, as folders and loaded."""

from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from qtarget.lab.worlds import World
from qtarget.models.loading import causal_lm_from

ASSETS = Path(__file__).parent / "assets"


def student_path(world: World) -> Path:
    """The student's folder: weights, config and tokenizer, as `from_pretrained` reads them."""
    return ASSETS / (world.models or world.name) / "student"


def teacher_path(world: World) -> Path:
    """The teacher's folder: weights, config and tokenizer, as `from_pretrained` reads them."""
    return ASSETS / (world.models or world.name) / "teacher"


def load_student(world: World) -> PreTrainedModel:
    """A fresh copy of the world's student, in float32."""
    return load(student_path(world))


def load_teacher(world: World) -> PreTrainedModel:
    """A fresh copy of the world's teacher, in float32."""
    return load(teacher_path(world))


def tokenizer(world: World) -> PreTrainedTokenizerFast:
    """The tokenizer that the world's student and teacher share."""
    return AutoTokenizer.from_pretrained(student_path(world))


def load(folder: Path) -> PreTrainedModel:
    """A model of the lab, in float32; ValueError where it was sealed and is damaged, or is no safetensors."""
    return causal_lm_from(str(folder), {"dtype": torch.float32})
