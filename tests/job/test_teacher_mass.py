"""A cache or a server that holds little of its teacher is spoken of in the same words wherever it is met."""

import json
import re

from job.command import run as command

from qtarget.job.config.flags import parse_arguments
from qtarget.job.config.read_job import read_job
from qtarget.job.teacher_mass import mass_warnings
from qtarget.job.training import prepare_training
from qtarget.teacher import Keep, documents_of_rows
from qtarget.teacher.served.model import load_served_model
from qtarget.teacher.served.wire import Limits

FOLDER = ("config.yaml", "--teacher-cache", "little")


def sentence_in(text: str) -> str:
    """The warning without line ends, from its figure on."""
    found = re.search(r"holds 0\.\d\d of the teacher's probability.*?by estimate\.", " ".join(text.split()))
    assert found, text
    return found[0]


def test_little_of_a_teacher_is_said_by_every_command_in_the_same_words(here, capsys):
    said = [command(capsys, "teacher", "cache", *FOLDER, "--teacher-top-k", "4").out]
    said.append(command(capsys, "teacher", "verify", "little").out)
    said.append(command(capsys, "validate", *FOLDER).out)
    said.append(command(capsys, "train", *FOLDER, "--max-steps", "1").out)
    said.append(command(capsys, "inspect", *FOLDER, "--rows", "4", "--scan", "0").out)
    said.append(command(capsys, "estimate", *FOLDER).out)
    said.append(command(capsys, "estimate", *FOLDER, "--no-pilot").out)
    dry = ("teacher", "cache", "config.yaml", "--teacher-cache", "other", "--teacher-top-k", "4", "--dry-run")
    said.append(command(capsys, *dry).out)
    sentences = [sentence_in(text) for text in said]
    assert sentences[0] == sentences[1]
    assert len(set(sentences[2:7])) == 1  # measured at the rows of training alone, not at those of evaluation too
    for words in (("inspect", *FOLDER, "--rows", "4", "--scan", "0"), ("estimate", *FOLDER, "--no-pilot")):
        (warning,) = json.loads(command(capsys, *words, "--json").out)["thin_teachers"]
        assert sentence_in(warning) == sentences[2]
    needed = int(re.findall(r"teacher_top_k: (\d+)", sentences[0])[0])
    assert len({re.sub(r"[\d.]+", "", sentence) for sentence in sentences}) == 1
    again = ("teacher", "cache", "config.yaml", "--teacher-cache", "enough", "--teacher-top-k", str(needed))
    said = command(capsys, *again)
    assert float(re.findall(r"captured +(0\.\d+)", said.out)[0]) > 0.7
    whole = ("teacher", "cache", "config.yaml", "--teacher-cache", "whole", "--teacher-top-k", "1000")
    assert "probability in the mean" not in command(capsys, *whole).out


def test_a_server_says_it_once(here, capsys):
    trainer = prepare_training(read_job(parse_arguments(["config.yaml"])))
    documents = list(documents_of_rows(trainer.train_dataset))
    served = load_served_model("teacher", "float32", Limits(256, 8192, 4))
    capsys.readouterr()
    for _ in range(2):
        served.answer(documents, Keep(4))
    said = capsys.readouterr().err
    assert "What a client asked of teacher holds 0." in " ".join(said.split())
    assert said.count("teacher_top_k:") == 1
    served.answer(documents, Keep(4, "sampled"))
    assert capsys.readouterr().err == ""
    assert list(mass_warnings(trainer)) == []  # a live teacher holds all of itself


def test_the_opening_question_says_nothing(here, capsys):
    served = load_served_model("teacher", "float32", Limits(256, 8192, 4))
    one = next(documents_of_rows([{"input_ids": [5, 6], "labels": [-100, 6]}]))
    capsys.readouterr()
    served.answer([one], Keep(4))
    assert capsys.readouterr().err == ""
