"""`qtarget search` on tiny models: the race, its files, that it goes on, and what it refuses."""

import json
import resource
import shutil
from pathlib import Path

import pytest
import yaml
from job.command import run as command
from job.directories import write_rows
from search.searched import ASKED, CONFIG, SPACE, WORDS, results_of, sums, write_file
from tiny_models import tiny_model, tiny_tokenizer
from transformers import AutoTokenizer

from qtarget.search import run_search, search_runs
from qtarget.search.search_space import read_space


def searched(capsys, *words: str, out: str = "s", space: str | None = "space.yaml"):
    named = () if space is None else ("--space", space)
    return command(capsys, "search", "config.yaml", *named, "--out", out, *words)


def test_a_search_races_confirms_and_says_what_it_found(here, capsys):
    said = searched(capsys, *ASKED)
    assert said.code == 0, said.err
    assert said.out.startswith("3 arms, 2 rungs of 2, 4 steps, 2 fresh seeds")
    found = results_of(here / "s")
    assert [each["name"] for each in found["arms"]][2] == "target-sft eta=0.2 learning_rate=0.01"
    assert found["steps"] == [2, 4]
    assert found["confirmation"]["seeds"] == 2
    assert found["confirmation"]["questions"] == 6
    assert found["sentence"].split(":")[0] in said.out.replace("\n", " ")
    assert (here / "s" / "race.png").read_bytes().startswith(b"\x89PNG")
    for each in found["arms"]:
        for rung in (1, 2):
            folder = here / "s" / each["folder"] / f"rung-{rung}"
            config = yaml.safe_load((folder / "config.yaml").read_text())
            assert (config["max_steps"], config["seed"], config["train_rows"]) == (2 * rung, 0, 16)
            assert json.loads((folder / "model" / "metrics.json").read_text())["steps"] == 2 * rung
            assert not list((folder / "model").glob("*.safetensors"))
    assert json.loads(command(capsys, "search", "config.yaml", "--space", "space.yaml", "--out", "s", *ASKED,
                              "--json").out)["sentence"] == found["sentence"]  # fmt: skip


def test_the_smallest_search_says_no_plural_of_one_and_how_long_it_takes_about(here, capsys):
    space = {**SPACE, "rungs": 1, "steps": 1, "confirm_seeds": 1}
    said = searched(capsys, *ASKED, space=write_file(here / "one.yaml", space))
    assert said.code == 0, said.err
    assert said.out.startswith("3 arms, 1 rung of 1 step, 1 fresh seed for the winner and one other: at most 5 runs")
    assert "rung 1, 1 step: sft learning_rate=0.001: " in said.out
    assert "rung 1 of 1, 1 step: " in said.out
    assert " at 1 step: " in results_of(here / "s")["sentence"]
    for wrong in (", 1 steps", " at 1 steps", " 1 rungs", " 1 fresh seeds", "; at most"):
        assert wrong not in said.out
    assert "; about " in said.out


def test_all_arms_read_one_cache_and_those_without_a_teacher_none(here, capsys):
    space = write_file(here / "two.yaml", {**SPACE, "rungs": 1, "confirm_seeds": 1, "arms": [
        {"method": "sft"}, {"method": ["kd", "target-sft"]}]})  # fmt: skip
    assert searched(capsys, *ASKED, space=space).code == 0
    configs = {
        path.parents[1].name: yaml.safe_load(path.read_text())
        for path in (here / "s").glob("arms/*/rung-1/config.yaml")
    }
    assert {name: config.get("teacher_cache") for name, config in configs.items()} == {
        "01-sft": None, "02-kd": "s/caches/1-1", "03-target-sft": "s/caches/1-1",
    }  # fmt: skip
    assert "teacher" not in configs["01-sft"]
    assert configs["03-target-sft"]["eta"] == 0.5  # the configuration's own
    assert len(list((here / "s" / "caches").glob("*/manifest.json"))) == 1


def test_the_two_halves_of_the_questions_are_apart_and_only_the_second_confirms(here, capsys):
    assert searched(capsys, *ASKED).code == 0
    race, rest = (
        (here / "s" / "questions" / f"{name}.jsonl").read_text().splitlines() for name in ("race", "confirmation")
    )
    assert len(race) == len(rest) == 6
    assert not set(race) & set(rest)
    assert sorted(map(json.loads, race + rest), key=str) == sorted(
        map(json.loads, (here / "dev.jsonl").open()), key=str
    )
    asked = {
        part: {json.loads(line)["qid"] for path in (here / "s" / part).rglob("samples.jsonl") for line in path.open()}
        for part in ("arms", "confirmation")
    }
    assert not asked["arms"] & asked["confirmation"]
    assert len(asked["arms"]) == 6


def test_best_yaml_is_taken_by_train_at_the_configurations_own_length(here, capsys):
    said = searched(capsys, *ASKED)
    assert said.code == 0, said.err
    written = (here / "s" / "best.yaml").read_text()
    best, found = yaml.safe_load(written), results_of(here / "s")
    for text in (written, said.out, (here / "s" / "table.md").read_text()):
        words = " ".join(text.replace("\n# ", " ").split())
        assert f"best.yaml holds {found['best']}, which {found['best_because']}." in words
    assert said.out.splitlines()[-1] == f"`qtarget train s/best.yaml` trains {found['best']} at full length"
    assert best["max_steps"] == CONFIG["max_steps"]
    assert "train_rows" not in best
    said = command(capsys, "train", "s/best.yaml", "--output-dir", "final", "--max-steps", "1")
    assert said.code == 0, said.err


def test_without_questions_the_loss_of_held_out_rows_is_the_score(here, capsys):
    config = {
        **CONFIG,
        "eval_dataset": "held_out.jsonl",
        "use_peft": True,
        "lora_r": 2,
        "lora_target_modules": "all-linear",
    }
    (here / "config.yaml").unlink()
    write_file(here / "config.yaml", config)
    said = searched(capsys)
    assert said.code == 0, said.err
    found = results_of(here / "s")
    assert found["measure"] == "minus the loss, nats a token"
    assert found["confirmation"]["questions"] == 6
    first = here / "s" / found["arms"][0]["folder"] / "rung-2"
    scores = json.loads((first / "result.json").read_text())["scores"]
    assert sum(scores) / 6 == pytest.approx(found["arms"][0]["rungs"][1]["mean"])
    assert max(scores) < 0


def test_the_loss_of_held_out_rows_is_the_trainers_own(here, capsys):
    """The mean over rows is minus the trainer's nll of the same rows."""
    from qtarget.search.held_out_rows import scores_of_losses
    from qtarget.search.row_losses import main

    (here / "config.yaml").unlink()
    write_file(here / "config.yaml", {**CONFIG, "eval_dataset": "held_out.jsonl"})
    assert searched(capsys, space=write_file(here / "one.yaml", {**SPACE, "rungs": 1, "confirm_seeds": 1})).code == 0
    rows = here / "s" / "questions" / "race.jsonl"
    plain = ("--method", "sft", "--eta", "null", "--teacher", "null", "--max-steps", "2", "--prompt-format", "null")
    said = command(capsys, "train", "config.yaml", *plain, "--train-dataset", str(rows), "--eval-dataset", str(rows))
    assert said.code == 0, said.err
    main(["out", str(rows), "losses.json"])
    scores = scores_of_losses(json.loads(Path("losses.json").read_text())["losses"], rows)
    nll = json.loads(Path("out/metrics.json").read_text())["eval"]["nll"]
    assert -sum(scores) / len(scores) == pytest.approx(nll, rel=1e-4)


def test_arms_that_fail_or_turn_nan_are_dropped_and_the_race_goes_on(here, capsys, commands_failing):
    commands_failing(lambda words: "the loss is nan" if words[0] == "train" and "02-sft" in words[1] else "")
    said = searched(capsys, *ASKED)
    assert said.code == 0, said.err
    found = results_of(here / "s")
    assert [each["failed"] for each in found["arms"]] == ["", "the loss is nan", ""]
    assert [len(each["rungs"]) for each in found["arms"]] == [2, 0, 2]
    assert "failed: the loss is nan" in (here / "s" / "table.md").read_text()


def test_a_run_whose_weights_diverge_fails_by_itself(here, capsys):
    arms = [*SPACE["arms"], {"method": "sft", "learning_rate": 1e30}]
    said = searched(capsys, *ASKED, space=write_file(here / "nan.yaml", {**SPACE, "arms": arms, "confirm_seeds": 1}))
    assert said.code == 0, said.err
    failed = [each["failed"] for each in results_of(here / "s")["arms"]]
    assert [bool(each) for each in failed] == [False, False, False, True]


def test_a_search_whose_arms_all_fail_says_the_first_reason(here, capsys, commands_failing):
    commands_failing(lambda words: "no weights" if words[0] == "train" else "")
    said = searched(capsys, *ASKED)
    assert said.code == 1
    assert "every arm failed; sft learning_rate=0.001: no weights" in said.err


def test_a_search_of_which_one_arm_is_left_says_so_and_ends(here, capsys, commands_failing):
    commands_failing(lambda words: "no weights" if words[0] == "train" and "/01-" not in words[1] else "")
    said = searched(capsys, *ASKED)
    assert said.code == 0, said.err
    assert "rung 1 of 2, 2 steps: 1 arm stays, 2 gone" in said.out
    assert results_of(here / "s")["steps"] == [2]


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("-sft-", "No sft arm finished a rung (sft learning_rate=0.001: no weights; 1 more), so"),
        ("target-sft", "No arm but sft finished a rung (target-sft eta=0.2 learning_rate=0.01: no weights), so"),
    ],
)
def test_a_search_whose_one_side_failed_says_which_everywhere(here, capsys, commands_failing, gone, said):
    """That every arm were sft would be untrue of either."""
    names = {"-sft-": ("/01-sft", "/02-sft"), "target-sft": ("/03-",)}[gone]
    commands_failing(lambda words: "no weights" if words[0] == "train" and any(n in words[1] for n in names) else "")
    found = searched(capsys, *ASKED)
    assert found.code == 0, found.err
    texts = [found.out, *((here / "s" / name).read_text() for name in ("table.md", "best.yaml", "results.json"))]
    for text in texts:
        words = " ".join(text.replace("\n# ", " ").split())
        assert said in words
        assert "Every arm is sft" not in words


def test_what_is_done_is_read_and_the_table_is_the_same(here, capsys, commands_failing, folder_state):
    assert searched(capsys, *ASKED).code == 0
    before = folder_state(here / "s")
    shutil.rmtree(here / "s" / "arms" / "02-sft-learning-rate-0.01" / "rung-2")
    (here / "s" / "arms" / "01-sft-learning-rate-0.001" / "rung-1" / "result.json").unlink()
    for name in ("table.md", "results.json", "race.png", "best.yaml"):
        (here / "s" / name).unlink()
    seen = commands_failing(lambda words: "")
    assert searched(capsys, *ASKED).code == 0
    assert folder_state(here / "s") == before
    assert len(seen) == 4


def test_another_search_is_not_mixed_with_one_that_is_there(here, capsys):
    assert searched(capsys, *ASKED).code == 0
    for words, what in (
        ((*ASKED, "--learning-rate", "0.5"), "configuration.learning_rate"),
        ((*ASKED, "--top-p", "0.5"), "evaluation.words"),
    ):
        said = searched(capsys, *words)
        assert said.code == 2
        assert f"differs in `{what}" in said.err, said.err
    said = searched(capsys, *ASKED, space=write_file(here / "other.yaml", {**SPACE, "steps": 3}))
    assert "differs in `space.steps`" in said.err
    (here / "s" / "search.json").write_text("{")
    assert "search.json is damaged" in searched(capsys, *ASKED).err


def copied(entry: Path) -> Path:
    """A link of the test's folder made a copy of its own."""
    source = entry.resolve()
    entry.unlink()
    return Path(shutil.copytree(source, entry) if source.is_dir() else shutil.copy(source, entry))


def with_other_rows(here: Path) -> None:
    rows = copied(here / "rows.jsonl")
    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join([*lines[:-1], lines[-1].replace('"answer": "', '"answer": "9')]))


def with_other_weights(name: str):
    def change(here: Path) -> None:
        folder = copied(here / name)
        tiny_model(vocab=len(tiny_tokenizer(WORDS)), seed=7).save_pretrained(folder)

    return change


def with_another_template(here: Path) -> None:
    folder = copied(here / "student")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template += "{# another #}"
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (with_other_rows, "training_rows"),
        (with_another_template, "chat_template"),
        (with_other_weights("student"), "models.student"),
        (with_other_weights("teacher"), "models.teacher"),
    ],
)
def test_rows_and_models_that_changed_under_one_name_are_not_mixed_into_a_race(here, capsys, change, what):
    space = write_file(here / "one.yaml", {**SPACE, "rungs": 1, "steps": 1, "confirm_seeds": 1})
    assert searched(capsys, *ASKED, space=space).code == 0
    before = {path: path.read_bytes() for path in (here / "s").rglob("*.json")}
    change(here)
    said = searched(capsys, *ASKED, space=space)
    assert said.code == 2, said.err
    assert f"differs in `{what}`" in said.err, said.err
    assert "write --out s-2" in said.err
    assert {path: path.read_bytes() for path in (here / "s").rglob("*.json")} == before


def test_damaged_results_are_named(here, capsys):
    assert searched(capsys, *ASKED).code == 0
    path = here / "s" / "arms" / "01-sft-learning-rate-0.001" / "rung-1" / "result.json"
    path.write_text(path.read_text().replace('"failed": ""', '"failed": "x"'))
    said = searched(capsys, *ASKED)
    assert said.code == 1
    assert "result.json is damaged" in said.err
    assert "to run it again" in said.err


def test_threads_and_one_after_the_other_come_to_the_same(here, capsys, folder_state):
    """The runs of this process share its torch, so the threads' commands wait for one another here; which run is whose
    is what is tried. Real processes beside one another are tried in test_killed_search."""
    import threading

    lock, plain = threading.Lock(), search_runs.run_qtarget

    def one_at_a_time(words, log, around):
        with lock:
            return plain(words, log, around)

    assert searched(capsys, *ASKED, out="one").code == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_runs, "run_qtarget", one_at_a_time)
        assert searched(capsys, *ASKED, "--workers", "3", out="three").code == 0
    one, three = folder_state(here / "one"), folder_state(here / "three")
    assert one["scores"] == three["scores"]
    assert one["table.md"] == three["table.md"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arms": []}, "`arms:` is a list with a mapping for each arm"),
        ({"arm": []}, 'a space has no key `arm`; did you mean "arms"?'),
        ({"arms": [{"method": "sftt"}]}, 'arm 1: no method \'sftt\'; did you mean "sft"?'),
        ({"arms": [{"method": "sft", "seed": 3}]}, "arm 1: `seed` is not an arm's own: write `seed:` beside `arms:`"),
        ({"arms": [{"method": "sft", "learning_rate": []}]}, "`learning_rate` is an empty list"),
        ({"arms": [{"method": "sft", "eta": 0.5}]}, "arm sft eta=0.5: "),
        ({"arms": [{"method": "target-sft", "eta": 1.5}]}, "arm target-sft eta=1.5: "),
        ({"arms": [{"method": "sft", "learning_rat": 0.5}]}, "learning_rat"),
        ({"arms": [{"method": "sft", "warmup_steps": 10}]}, "`warmup_steps: 10` counts steps"),
        ({"arms": [{"method": "sft", "learning_rate": {"low": 2, "high": 1}}]}, "`learning_rate` is no range"),
        ({"arms": [{"method": "sft", "draws": 4}]}, "`draws` is of ranges"),
        ({"rows": 500}, "24"),
        ({"rungs": 0}, "`rungs: 0` is not accepted"),
        ({"steps": True}, "`steps: True` is not accepted"),
    ],
)  # fmt: skip
def test_a_space_that_will_not_do_is_refused_before_any_run(here, capsys, change, said):
    space = write_file(here / "bad.yaml", {**SPACE, **change})
    ended = searched(capsys, *ASKED, space=space)
    assert ended.code == 2
    assert said in ended.err, ended.err
    assert not (here / "s").exists()


def test_questions_that_are_trained_on_are_refused_with_the_first(here, capsys):
    rows = [json.loads(line) for line in (here / "rows.jsonl").open()]
    asked = [*sums(6, 3, 14, 20), {"question": rows[3]["question"].upper().replace(" ", "  "), "answer": "1"}]
    write_rows(here / "overlap.jsonl", asked)
    said = searched(capsys, *ASKED[2:], "--questions", "overlap.jsonl")
    assert said.code == 2
    assert "is also training row 4 of `train_dataset`" in said.err
    texts = [{"text": f"Please: {each['question']} Thanks. {each['answer']}"} for each in rows]
    write_rows(here / "texts.jsonl", texts)
    said = searched(
        capsys, *ASKED[2:], "--questions", "overlap.jsonl", "--train-dataset", "texts.jsonl", "--prompt-format", "null"
    )
    assert "is also training row 4" in said.err
    write_rows(here / "texts.jsonl", [{"text": f"<|user|>{each['question']}<|end|>{each['answer']}"} for each in rows])
    said = searched(
        capsys, *ASKED[2:], "--questions", "overlap.jsonl", "--train-dataset", "texts.jsonl", "--prompt-format", "null"
    )
    assert "is also training row 4" in said.err


def test_held_out_rows_that_are_trained_on_are_refused(here, capsys):
    said = searched(capsys, "--eval-dataset", "rows.jsonl")
    assert said.code == 2
    assert "row 1 of `eval_dataset` is also row 1 of `train_dataset`" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing says how good an arm is; write --questions dev.jsonl"),
        (("--questions", "dev.jsonl"), "--questions needs --grade"),
        (("--grade", "number"), "these are of --questions FILE"),
        (("--questions", "gone.jsonl", "--grade", "number"), "gone.jsonl"),
        (("--questions", "few.jsonl", "--grade", "number"), "has 3 questions: half of them race"),
        (("--questions", "none.jsonl", "--grade", "number"), "has no rows"),
        ((*ASKED, "--train-dataset", "none.jsonl"), "none.jsonl"),
        ((*ASKED, "--train-dataset", "odd.jsonl"), "x"),
        ((*ASKED, "--streaming", "true", "--max-steps", "9"), "write `streaming: false`"),
        ((*ASKED, "--teacher", "null"), "needs a teacher"),
        ((*ASKED, "--model", "gone/model"), "gone/model"),
        ((*ASKED, "--k", "0"), "k"),
        ((*ASKED, "--temperature", "0"), "temperature 0 gives the same answer 2 times"),
        ((*ASKED, "--prompt", "gone"), "gone"),
        (
            (*ASKED, "--launch", "no-such-launcher --num_processes 2"),
            "--launch no-such-launcher: there is no such command",
        ),
        ((*ASKED, "--out", "config.yaml/s"), "config.yaml"),
    ],
)
def test_a_request_that_will_not_do_is_refused_before_any_run(here, capsys, words, said):
    write_rows(here / "few.jsonl", sums(3, 3, 14, 20))
    (here / "none.jsonl").write_text("")
    write_rows(here / "odd.jsonl", [{"x": 1}])
    ended = searched(capsys, *words)
    assert ended.code == 2, ended.err
    assert said in ended.err, ended.err
    assert not (here / "s" / "arms").exists()


def test_without_a_space_the_arms_are_inspects_candidates(here, capsys):
    said = searched(capsys, *ASKED, space=None)
    assert said.code == 0, said.err
    space = read_space(here / "s" / "space.yaml")
    assert [arm.keys["method"] for arm in space.arms[::3]] == ["sft", "target-sft", "kd"]
    assert {arm.keys["learning_rate"] for arm in space.arms} == {0.0005, 0.001, 0.003}
    assert (space.steps, space.rungs) == (1, 3)  # a quarter of 16 steps at the last rung
    assert searched(capsys, *ASKED, space=None).code == 0


def test_sft_races_where_no_arm_is(here, capsys):
    space = {**SPACE, "arms": [{"method": "target-sft", "eta": 0.2, "learning_rate": [1e-3, 1e-2]}], "rungs": 1}
    assert searched(capsys, *ASKED, space=write_file(here / "no.yaml", space)).code == 0
    names = [each["name"] for each in results_of(here / "s")["arms"]]
    assert names[:2] == ["sft learning_rate=0.001", "sft learning_rate=0.01"]


def test_an_interrupt_says_what_is_kept(here, capsys, monkeypatch):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_search, "all_results", stopped)
    said = searched(capsys, *ASKED)
    assert said.code == 130
    assert "the same command goes on from there" in said.err


def test_a_full_disk_is_no_failed_arm_and_the_same_command_goes_on(here, capsys, monkeypatch):
    """No file of the second training's may be as large as its weights, as where a disk has no more room."""
    plain, limits = search_runs.run_qtarget, resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_a_full_disk(words, log, around):
        is_full = words[0] == "train" and "02-sft" in words[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000 if is_full else limits[0], limits[1]))
        try:
            return plain(words, log, around)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with monkeypatch.context() as patch:
        patch.setattr(search_runs, "run_qtarget", on_a_full_disk)
        said = searched(capsys, *ASKED)
    assert said.code == 75
    assert "arms/02-sft-learning-rate-0.01/rung-1: " in said.err
    assert "It is no failed arm" in said.err
    assert searched(capsys, *ASKED).code == 0
    assert [each["failed"] for each in results_of(here / "s")["arms"]] == ["", "", ""]


def test_a_teacher_that_stays_away_is_no_failed_arm(here, capsys, monkeypatch):
    """The third arm's teacher is a server at which nobody answers."""
    plain = search_runs.run_qtarget

    def without_server(words, log, around):
        if words[0] == "train" and "03-target-sft" in words[1]:
            values = yaml.safe_load(Path(words[1]).read_text())
            del values["teacher_cache"]
            write_file(Path(words[1]), {**values, "teacher": "http://127.0.0.1:1", "teacher_timeout": 1})
        return plain(words, log, around)

    monkeypatch.setattr(search_runs, "run_qtarget", without_server)
    said = searched(capsys, *ASKED)
    assert said.code == 75
    assert "arms/03-target-sft-eta-0.2-learning-rate-0.01/rung-1: " in said.err
    assert "It is no failed arm" in said.err
