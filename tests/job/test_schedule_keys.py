"""A schedule in a configuration: from YAML to the run, its manifest and what is printed of it."""

import pytest
from job.command import run as command

import qtarget as qt
from qtarget.disk.seal import read_seal
from qtarget.job.config.flags import parse_arguments
from qtarget.job.config.read_job import read_job
from qtarget.job.method_pages import entry, method_entry


def job_of(*words: str):
    return read_job(parse_arguments(["mine.yaml", *words]))


@pytest.fixture
def mine(here):
    """A configuration of the test's own, with a schedule in it."""
    (here / "mine.yaml").write_text((here / "config.yaml").read_text() + "trust: {from: 1, to: p_y, until: 0.5}\n")
    return here


def test_a_schedule_is_written_in_yaml_or_as_a_flag(mine):
    whole = {"from": 0.2, "to": 0.8, "shape": "cosine"}
    job = job_of("--eta", "{from: 0.2, to: 0.8, shape: cosine}", "--schedule-steps", "8")
    assert job.method.hyperparameters["eta"] == whole
    assert job.method.hyperparameters["trust"] == {"from": 1, "to": "p_y", "until": 0.5}
    assert job.method.needs >= {"teacher", "progress"}
    assert job.args.schedule_steps == 8
    assert job_of("--eta", "agreement").method.hyperparameters["eta"] == "agreement"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--eta", "{from: 0.2}"),
            r"^--eta: .*`eta: {from: 0.2}` is no .* a schedule with 'to', for example `eta: {from: 0, to: 1}`\.$",
        ),
        (
            ("--trust", "{from: 0, too: 1}"),
            r"^--trust: .*`trust: {from: 0, too: 1}` is no schedule.* a schedule without",
        ),
        (("--eta", "1.5"), r"^--eta: .*`eta: 1.5` is out of range; .*for example `eta: 0.5`\.$"),
        (
            ("--method_kwargs", "{teacher_temperature: 0}"),
            "^--method_kwargs: .*`teacher_temperature: 0` is out of range",
        ),
        (
            ("--teacher-temperature", "{from: 1, to: 2}"),
            "teacher_temperature cannot be a schedule; of this method eta.* Write `teacher_temperature: 1.0`",
        ),
        (
            ("--method", "idft", "--eta=null", "--trust=null", "--beta", "{from: 0, to: 1}"),
            "beta cannot be a schedule; .* Write `beta: ",
        ),
        (
            ("--method", "taid", "--eta=null", "--trust=null", "--start", "0.9", "--end", "0.1"),
            r"^--start: .*`start: 0.9` is above `end: 0.1`; write `end: 0.9` or more\.$",
        ),
        (
            ("--method", "kd", "--eta=null", "--trust=null", "--teacher-weights", "[0.3, 0.5]"),
            r"`teacher_weights: \[0.3, 0.5\]` must sum to 1; write `teacher_weights: \[0.5, 0.5\]`",
        ),
        (("--learning-rate", "{from: 1e-5, to: 1e-4}"), "It takes no schedule"),
        (("--schedule-steps", "0"), "schedule_steps: 0"),
    ],
)
def test_a_schedule_where_none_can_be_is_refused(mine, words, said):
    with pytest.raises(ValueError, match=said):
        job_of(*words)


def test_a_run_says_its_schedule_wherever_it_says_its_method(mine, capsys):
    words = ("mine.yaml", "--eta", "{from: 0.2, to: 0.8}")
    shown = command(capsys, "validate", *words)
    assert shown.code == 0, shown.err
    assert "from: 0.2" in shown.out
    assert command(capsys, "estimate", *words).code == 0
    said = command(capsys, "train", *words)
    assert said.code == 0, said.err
    identity = read_seal(mine / "out").facts["history"][-1]["identity"]
    assert identity["hyperparameters"]["eta"] == {"from": 0.2, "to": 0.8}
    assert "schedule_steps" in identity
    card = (mine / "out" / "README.md").read_text("utf-8")
    assert "| trust γ | 1 → p_y along progress until 0.5 |" in card
    assert "| formula | γ = 1 → p_y along progress until 0.5, π̃ ∝ p^(1−η)·t^η" in card
    assert "eta = 0.2 → 0.8 along progress, teacher_temperature = 1, trust = 1 → p_y along progress until 0.5" in card
    assert "eta = 0.2 → 0.8 along progress" in said.out
    for words in (card[: card.index("## Configuration")], said.out):
        assert "'from'" not in words
        assert "γ = p_y" not in words


def test_a_method_without_a_schedule_is_told_as_the_catalogue_has_it():
    method = qt.method("dft", trust="teacher_p_y")
    assert method_entry(method).trust == "teacher_p_y"
    assert method_entry(method).formula.startswith("γ = teacher_p_y, π̃ = p, loss −sg[γ] log p_y")
    for name in qt.METHODS:
        assert method_entry(qt.method(name)) == entry(name)
