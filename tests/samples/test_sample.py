"""`qtarget sample`: prompts as they are trained on, what is kept, weighed and marked, what is refused, and kill -9."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
import torch
from job.command import run as command
from job.directories import model_directory, write_rows
from job.stopped import Signalling, ended
from samples.drawn import GRADE, ROWS, lab_rows, rows_in, write_config
from tiny_models import tiny_model, tiny_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from qtarget import lab
from qtarget.evaluate.nouns import Record, SamplingProtocol
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import job_of, read_job
from qtarget.job.rows.rendering import rows_trainer
from qtarget.models.identity import weights_identity
from qtarget.samples.kept_samples import WEIGHS_NOTHING, SampleSummary, _joined, remedy_for
from qtarget.samples.sampled_prompts import rendering_of, sampled_prompts


def sampled(capsys, *words: str, config: str = "config.yaml", out: str = "s"):
    return command(capsys, "sample", config, "--out", out, *words)


def is_right(row: dict) -> bool:
    return row["completion"].rpartition("answer")[2].strip() == lab.true_answer(row["prompt"])


def test_right_samples_become_rows_that_train_takes(here, capsys):
    said = sampled(capsys)
    assert said.code == 0, said.err
    rows, answers = rows_in(here / "s"), [json.loads(line) for line in (here / "s/prompts/samples.jsonl").open()]
    assert len(answers) == 3 * ROWS
    assert rows
    assert all(map(is_right, rows))
    texts = {(row["prompt"], row["completion"]) for row in rows}
    assert len(texts) == len(rows)  # distinct ones
    summary = json.loads((here / "s/sample.json").read_text())
    right = sum(record["grade"] for record in answers)
    by_prompt = Counter(record["qid"] for record in answers if record["grade"])
    assert (summary["samples"], summary["right"], summary["prompts"]) == (3 * ROWS, right, ROWS)
    assert summary["none_right"] == ROWS - len(by_prompt)
    assert summary["rows"] == len(rows) == right - summary["left_out"].get("said before", 0)
    assert f"{right / (3 * ROWS):.1%} of the samples" in said.out
    trained = command(capsys, "train", "config.yaml", "--train-dataset", "s/rows.jsonl")
    assert trained.code == 0, trained.err


def test_rows_that_tell_the_teacher_other_things_are_each_answered(here, capsys):
    first, second, third, *_ = lab_rows()
    told = [
        {**first, "privileged_context": "hint A"},
        {**first, "privileged_context": "hint B"},
        {**first, "privileged_context": "hint A"},
        {**second, "privileged_context": None},
        {**second, "privileged_context": "hint C"},
        {**third, "privileged_context": None},
    ]
    write_rows(here / "rows.jsonl", told)
    write_config(here, sample={"grade": None, "keep": "all", "k": 2}, teacher="self")
    assert sampled(capsys).code == 0
    rows = rows_in(here / "s")
    asked = Counter((row["prompt"], row["teacher_prompt"]) for row in rows)
    ask = [(each["prompt"], f"{each['prompt']}{hint}") for each, hint in (
        (first, "\n\nhint A"), (first, "\n\nhint B"), (second, ""), (second, "\n\nhint C"), (third, ""),
    )]  # fmt: skip
    assert list(asked) == ask
    assert json.loads((here / "s/sample.json").read_text())["prompts"] == 5
    assert len({row["sampled"]["seed"] for row in rows}) == len(rows)  # each draw is its own


def test_a_prompt_that_comes_again_is_answered_where_it_came_first_and_graded_by_its_own_answer(here, capsys):
    first, *others = lab_rows()
    write_rows(here / "rows.jsonl", [first, *others, first])
    assert sampled(capsys).code == 0
    rows = rows_in(here / "s")
    assert all(map(is_right, rows))
    write_rows(here / "rows.jsonl", [first, *others])
    assert sampled(capsys, out="once").code == 0
    assert [row["sampled"] for row in rows_in(here / "once")] == [row["sampled"] for row in rows]


def test_a_teacher_that_is_told_the_prompt_itself_changes_no_draw(here, capsys):
    assert sampled(capsys, out="plain").code == 0
    write_rows(here / "rows.jsonl", [{**row, "teacher_prompt": None} for row in lab_rows()])
    assert sampled(capsys, out="null").code == 0
    assert [row["sampled"] for row in rows_in(here / "null")] == [row["sampled"] for row in rows_in(here / "plain")]


def test_equal_prompts_have_one_right_answer_whatever_the_teacher_is_told(here, capsys):
    row = lab_rows()[0]
    write_rows(here / "rows.jsonl", [row, {**row, "answer": "99", "privileged_context": "hint"}])
    said = sampled(capsys)
    assert said.code == 2
    assert "ask the same and give other answers in `answer`" in said.err


def test_rows_of_prompts_alone_are_sent_to_the_key_that_takes_them(here, capsys):
    write_rows(here / "rows.jsonl", [{"prompt": row["prompt"], "answer": row["answer"]} for row in lab_rows()])
    said = sampled(capsys)
    assert said.code == 2
    assert "prompts and no completions" in said.err
    assert "`sample: {prompts: rows.jsonl}`" in said.err
    assert sampled(capsys, "--prompts", "rows.jsonl").code == 0


def test_each_row_says_who_wrote_it_and_can_be_drawn_again(here, capsys):
    assert sampled(capsys, "--temperature", "0.7").code == 0
    row = rows_in(here / "s")[0]
    mark = row["sampled"]
    assert mark["model"] == "student"
    assert mark["weights"] == weights_identity("student")
    assert (mark["temperature"], mark["top_p"], mark["kept"], mark["grade"]) == (0.7, 1.0, "right", 1)
    from qtarget.evaluate.generators.drawing import draw

    model, tokenizer = AutoModelForCausalLM.from_pretrained("student"), AutoTokenizer.from_pretrained("student")
    protocol = SamplingProtocol("plain", temperature=0.7, max_new_tokens=40)
    ids = draw(model, tokenizer, [tokenizer(row["prompt"])["input_ids"]], [mark["seed"]], protocol)
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == row["completion"]


@pytest.mark.parametrize("keep", ["all", "right", "best"])
def test_keep(here, capsys, keep):
    assert sampled(capsys, "--keep", keep).code == 0
    rows = rows_in(here / "s")
    records = [json.loads(line) for line in (here / "s/prompts/samples.jsonl").open()]
    done = [record for record in records if record["finish_reason"] == "stop"]
    if keep == "all":
        assert [row["completion"] for row in rows] == [record["completion"] for record in done]
        assert any(not is_right(row) for row in rows)
        return
    assert all(map(is_right, rows))
    for prompt, count in Counter(row["sampled"]["prompt"] for row in rows).items():
        right = [record for record in done if record["qid"] == prompt and record["grade"] == 1]
        assert count == (1 if keep == "best" else len({record["completion"] for record in right}))
        if keep == "best":
            (row,) = [row for row in rows if row["sampled"]["prompt"] == prompt]
            assert row["completion"] == min(right, key=lambda record: record["n_tokens"])["completion"]


def test_another_choice_of_rows_draws_nothing_again(here, capsys):
    assert sampled(capsys, "--keep", "all").code == 0
    before, all_rows = (here / "s/prompts/samples.jsonl").read_bytes(), rows_in(here / "s")
    assert sampled(capsys, "--keep", "best").code == 0
    assert (here / "s/prompts/samples.jsonl").read_bytes() == before
    assert len(rows_in(here / "s")) < len(all_rows)


@pytest.mark.parametrize(
    ("left_out", "advice"),
    [
        ({WEIGHS_NOTHING: 1, "not right": 3}, "write `weights: equal`"),
        ({"cut off": 1, "not right": 3}, "Draw more of each (`sample: {k: 16}`)"),
        ({"cut off": 3, "not right": 1}, "`sample: {max_new_tokens: 40}`"),
    ],
)
def test_the_advice_is_about_what_left_every_sample_out(left_out, advice):
    summary = SampleSummary(
        1, 4, 1, 0, left_out.get("cut off", 0), 0, 0, 0, 9.0, left_out, "right", "paced", "m", {"max_new_tokens": 20}
    )
    assert advice in remedy_for(summary)


def test_cut_off_samples_are_never_kept(here, capsys):
    said = sampled(capsys, "--keep", "all", "--max-new-tokens", "22")
    assert said.code == 0, said.err
    summary = json.loads((here / "s/sample.json").read_text())
    assert 0 < summary["cut_off"] == summary["left_out"]["cut off"] == summary["samples"] - summary["rows"]
    none = sampled(capsys, "--keep", "all", "--max-new-tokens", "3", out="none")
    assert none.code == 1
    assert "no sample is kept" in none.err
    assert "max_new_tokens: 6" in none.err
    assert not (here / "none/rows.jsonl").exists()


@pytest.mark.parametrize(
    ("kind", "bare"), [("per-prompt", lambda rate, n: 1 / n), ("paced", lambda rate, n: rate * (1 - rate))]
)
def test_weights_come_from_pass_rates_and_are_1_on_average(here, capsys, kind, bare):
    assert sampled(capsys, "--weights", kind, "--k", "4").code == 0
    rows = rows_in(here / "s")
    counts = Counter(row["sampled"]["prompt"] for row in rows)
    weights = [row["weight_spans"][0][2] for row in rows]
    assert sum(weights) / len(weights) == pytest.approx(1, abs=1e-4)
    expected = [bare(row["sampled"]["pass_rate"], counts[row["sampled"]["prompt"]]) for row in rows]
    scale = weights[0] / expected[0]
    assert weights == pytest.approx([scale * each for each in expected], rel=1e-4)
    assert len(set(weights)) > 1
    job = job_of(
        {"model": "student", "train_dataset": "s/rows.jsonl", "method": "sft", "output_dir": "o", "use_cpu": True}
    )
    prepared = rows_trainer(job).train_dataset
    first = prepared[0]
    learned = [w for w, label in zip(first["token_weight"], first["labels"], strict=True) if label != -100]
    assert set(learned[:-1]) == {rows[0]["weight_spans"][0][2]}  # all but the end token


CHATS = [
    {"messages": [{"role": "user", "content": f"w{i} w2"}, {"role": "assistant", "content": "w3"},
                  {"role": "user", "content": "w4"}, {"role": "assistant", "content": f"w{i + 1}"}]}
    for i in range(5)
]  # fmt: skip
QUESTIONS = [{"question": f"w{i} w7", "answer": f"w{i}"} for i in range(5)]
INSTRUCTIONS = [{"instruction": f"w{i}", "input": "w9", "output": f"w{i}"} for i in range(5)]


@pytest.mark.parametrize("rows", [CHATS, QUESTIONS, INSTRUCTIONS, lab_rows(5)], ids=["chats", "qa", "alpaca", "texts"])
@pytest.mark.parametrize("has_template", [True, False])
@pytest.mark.parametrize("prompt_format", [None, "auto"])
def test_prompts_are_the_ids_that_training_has_before_the_answer(tmp_path, rows, has_template, prompt_format):
    if rows is CHATS and (prompt_format or not has_template):
        pytest.skip("conversations need a template, and several turns no `prompt_format`")
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template if has_template else None
    tiny_model("llama").save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    write_rows(tmp_path / "rows.jsonl", rows)
    job = job_of({
        "model": str(tmp_path / "m"), "train_dataset": str(tmp_path / "rows.jsonl"), "method": "sft",
        "learn": "last" if rows is CHATS else "assistant",
        "output_dir": str(tmp_path / "o"), "prompt_format": prompt_format, "use_cpu": True,
    })  # fmt: skip
    prompts = sampled_prompts(job, rendering_of(job, tokenizer, tokenizer))
    trained = rows_trainer(job).train_dataset
    assert len(prompts) == len(trained) == 5
    for prompt, row in zip(prompts, trained, strict=True):
        first = next(place for place, label in enumerate(row["labels"]) if label != -100)
        assert list(prompt.ids) == row["input_ids"][:first]


def test_conversations_come_back_as_conversations(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model_directory(tmp_path / "m", seed=4)
    write_rows(tmp_path / "rows.jsonl", CHATS)
    write_config(
        tmp_path,
        model="m",
        method="sft",
        teacher=None,
        eta=None,
        sample={"grade": None, "keep": "all", "k": 8, "max_new_tokens": 60},
    )
    said = sampled(capsys, "--weights", "per-prompt")
    assert said.code == 0, said.err
    for row in rows_in(tmp_path / "s"):
        assert [turn["role"] for turn in row["prompt"]] == ["user", "assistant", "user"]
        assert [turn["role"] for turn in row["completion"]] == ["assistant"]
        assert row["weight_spans"][0][0][:2] == [0, len(row["completion"][0]["content"])]
    trained = command(capsys, "train", "config.yaml", "--train-dataset", "s/rows.jsonl", "--output-dir", "t")
    assert trained.code == 0, trained.err


def test_a_space_that_a_tokenizer_drops_is_put_back():
    words = ["<unk>", "<eos>", "▁4", "4", "▁=", "▁2", "▁+", "▁"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>")
    from qtarget.samples.prepare_sampling import PreparedSampling
    from qtarget.samples.sampled_prompts import SampledPrompt

    ids = tuple(tokenizer("2 + 2 =")["input_ids"])
    written = tokenizer.decode([words.index("▁4")])
    assert written == "4"
    prepared = PreparedSampling(None, None, (), "", tokenizer, True)  # type: ignore[arg-type]
    record = Record("t", "", "q", 0, 0, "", written, "stop", 2, None, 1, "ok", "", "", "")
    text = _joined(prepared, SampledPrompt("2 + 2 =", ids), record)
    assert text == " 4"
    assert tokenizer("2 + 2 =" + text)["input_ids"] == [*ids, words.index("▁4")]


def test_any_model_may_write_and_prompts_may_stand_in_a_file_of_their_own(here, capsys):
    write_rows(here / "prompts.jsonl", [{"prompt": row["prompt"], "gold": row["answer"]} for row in lab_rows(6)])
    write_config(here, "teacher.yaml", sample={"model": "teacher", "prompts": "prompts.jsonl"}, train_dataset=None)
    said = sampled(capsys, config="teacher.yaml")
    assert said.code == 0, said.err
    rows = rows_in(here / "s")
    assert {row["sampled"]["model"] for row in rows} == {"teacher"}
    assert {row["prompt"] for row in rows} <= {row["prompt"] for row in lab_rows(6)}


def test_a_task_brings_its_questions_and_its_grader(here, capsys):
    words = ("--task", "lab-weak-operator", "--limit", "8", "--k", "2")
    write_config(here, "task.yaml", sample={"grade": None, "keep": None}, train_dataset=None)
    refused = sampled(capsys, *words, config="task.yaml")
    assert refused.code == 2
    assert "`prompt_format: plain` (or --prompt-format plain)" in refused.err
    said = sampled(capsys, *words, "--prompt-format", "plain", config="task.yaml")
    assert said.code == 0, said.err
    summary = json.loads((here / "s/sample.json").read_text())
    assert (summary["prompts"], summary["keep"]) == (8, "right")
    assert all(map(is_right, rows_in(here / "s")))


MOMENTS = 5


def test_a_sampling_that_was_killed_ends_with_the_same_rows(here, capsys):
    assert sampled(capsys, out="whole").code == 0
    whole = (here / "whole/rows.jsonl").read_bytes()
    ends = []
    for moment in range(MOMENTS):
        out = f"killed-{moment}"
        place = here / f"said-{moment}"
        place.mkdir()
        from qtarget.evaluate import store

        at = Signalling(store.Appender, "append", 13 * moment, signal.SIGKILL)
        if moment == MOMENTS - 1:
            at = Signalling(
                os, "replace", 0, signal.SIGKILL, where=lambda *paths: str(paths[-1]).endswith("rows.jsonl")
            )
        ends.append(ended(("sample", "config.yaml", "--out", out), at, folder=place).code)
        assert sampled(capsys, out=out).code == 0
        assert (here / out / "rows.jsonl").read_bytes() == whole
    assert ends == [-signal.SIGKILL] * MOMENTS


def test_a_block_is_drawn_as_a_whole_whatever_of_it_is_there(monkeypatch):
    """What stands beside a sample in its batch is the same in the first drawing and in one that goes on."""
    from qtarget.evaluate.generators.whole_blocks import BATCHES_OF_BLOCK, WholeBlocks
    from qtarget.evaluate.nouns import Completion, Request

    asked: list[list[int]] = []

    class Writer:
        batch_size, tokenizer = 2, None

        def fingerprint(self):
            return {}

        def generate(self, requests, ask, on_tokens=None):
            asked.append([request.sample for request in requests])
            for request in requests:
                yield Completion(request, "x", "stop", 1)

    every = tuple(Request("q", number, number, (1,)) for number in range(40))
    blocks = WholeBlocks(Writer(), every)
    given = [each.request.sample for each in blocks.generate(every[17:20], SamplingProtocol("plain"))]
    size = 2 * BATCHES_OF_BLOCK
    assert asked == [list(range(size, 2 * size))]
    assert given == [17, 18, 19]


REFUSED = {
    "no grader": ({"grade": None}, (), "`sample: {keep: right}` is about right answers, and nothing grades them"),
    "no answer column": ({"answer": "anwser"}, (), "did you mean `answer`?"),
    "temperature 0": ({"temperature": 0}, (), "gives the same answer 3 times; write `k: 1`"),
    "unknown key": ({"kep": "right"}, (), "`sample` has no key `kep`; did you mean \"keep\"?"),
    "keep": ({"keep": "some"}, (), "`sample: {keep: some}` is not accepted"),
    "k": ({"k": 0}, (), "`sample: {k: 0}` is out of range; expected 1 or more, as in `sample: {k: 8}`"),
    "k is a switch": ({"k": True}, (), "`sample: {k}` stands without a number; write `sample: {k: 8}`"),
    "k is no number": ({"k": "many"}, (), "`sample: {k: many}` is not accepted"),
    "empty": ({"prompts": ""}, (), "`sample: {prompts}` is empty"),
    "task and grade": ({"task": "lab-weak-operator"}, (), "has its own questions and its own grader"),
    "no such grader": ({"grade": "numbr"}, (), "Did you mean 'number'?"),
    "streaming": ({}, ("--streaming", "--max-steps", "3"), "write `streaming: false`"),
    "no rows": ({}, ("--train-dataset", "empty.jsonl"), "empty.jsonl"),
    "texts": ({}, ("--train-dataset", "texts.jsonl"), "which have no prompt to answer"),
    "no answers": ({}, ("--prompts", "only.jsonl"), "no column of the rows holds right answers"),
    "contradiction": ({}, ("--train-dataset", "twice.jsonl", "--answer", "answer"), "ask the same and give other "
    "answers"),
    "null answer": ({}, ("--train-dataset", "null.jsonl", "--answer", "answer"), "row 2 of the train data set"),
    "null answer behind a bad row": ({"answer": "answer"}, ("--train-dataset", "skipped.jsonl", "--bad-rows", "skip"),
    "row 3 of the train data set"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(here, capsys, case):
    section, words, said = REFUSED[case]
    row = lab_rows(1)[0]
    (here / "empty.jsonl").write_text("")
    write_rows(here / "texts.jsonl", [{"text": "1 + 1"}])
    write_rows(here / "only.jsonl", [{"prompt": "1 + 1 ?"}])
    write_rows(here / "twice.jsonl", [row, {**row, "answer": "x"}])
    write_rows(here / "null.jsonl", [row, {**lab_rows(2)[1], "answer": None}])
    write_config(here, "bad.yaml", sample=section)
    write_rows(here / "skipped.jsonl", [{**row, "completion": ""}, row, {**lab_rows(2)[1], "answer": None}])
    refused = sampled(capsys, *words, config="bad.yaml")
    assert refused.code == 2, refused
    assert said in refused.err
    assert not (here / "s").exists()


def test_rows_in_the_way_are_not_overwritten(here, capsys):
    (here / "s").mkdir()
    (here / "s/rows.jsonl").write_text("mine\n")
    refused = sampled(capsys)
    assert refused.code == 2
    assert "s/rows.jsonl is there already, and no sampling wrote it" in refused.err
    assert "--out s-2" in refused.err
    assert (here / "s/rows.jsonl").read_text() == "mine\n"
    assert sampled(capsys, out="t").code == 0
    with (here / "t/rows.jsonl").open("a") as file:
        file.write("{}\n")
    refused = sampled(capsys, out="t")
    assert refused.code == 2
    assert "is not what was written there" in refused.err


def test_nothing_right_says_what_to_do(here, capsys):
    write_rows(here / "wrong.jsonl", [{**row, "answer": "eleven"} for row in lab_rows(4)])
    said = sampled(capsys, "--train-dataset", "wrong.jsonl", "--answer", "answer")
    assert said.code == 1
    assert "of 12 samples of 4 prompts" in said.err
    assert "not right" in said.err
    assert "`keep: all`" in said.err


@pytest.mark.parametrize(("method", "keep", "notes"), [
    ("dft", "right", ["the trust of \"dft\" reads how likely"]), ("sft", "right", []),
    ("sft", "all", ["has no direction on average"]), ("kd", "all", []),
])  # fmt: skip
def test_own_samples_are_said_where_trust_means_nothing(here, capsys, method, keep, notes):
    write_config(here, method=method, eta=None, teacher="teacher" if method == "kd" else None)
    assert sampled(capsys, "--keep", keep).code == 0
    said = command(capsys, "validate", "config.yaml", "--train-dataset", "s/rows.jsonl", "--json")
    assert said.code == 0, said.err
    found = [note for note in json.loads(said.out)["train"]["notes"] if "own samples" in note]
    assert len(found) == len(notes)
    assert all(part in note for part, note in zip(notes, found, strict=True))
    if notes:  # rows of another writer are no samples of the student
        other = command(
            capsys, "validate", "config.yaml", "--train-dataset", "s/rows.jsonl", "--model", "teacher", "--json"
        )
        assert "own samples" not in other.out


def test_a_loss_on_own_samples_has_no_direction_on_average():
    """What the note says: over y ~ p the mean gradient of the label's part is zero where trust is constant."""
    generator = torch.Generator().manual_seed(0)
    logp = torch.randn(7, generator=generator, dtype=torch.float64).log_softmax(-1)
    p, onehots = logp.exp(), torch.eye(7, dtype=torch.float64)
    constant = ((p - onehots) * p[:, None]).sum(0)
    own = ((p - onehots) * p[:, None] * p[:, None]).sum(0)  # trust p_y
    assert constant.abs().max() < 1e-15
    assert own.argmin() == p.argmax()  # raises what is likely already
    assert own.abs().max() > 1e-3


def test_the_section_is_read_by_python_too(here):
    job = read_job(RunArguments(Path("config.yaml"), {}))
    assert (job.sampling.k, job.sampling.kept, job.sampling.grade) == (3, "right", GRADE)
