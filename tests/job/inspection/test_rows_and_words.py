"""Which rows are chosen, what the audit finds in them, and how tokens are read."""

import numpy as np
import pytest
import tiny_models
from job.inspection import looked_at

from qtarget.job.inspection import row_audit
from qtarget.job.inspection.findings import kind_figures, surest_against
from qtarget.job.inspection.html_page.page_store import page_store, page_text
from qtarget.job.inspection.inspect_job import inspect_trainer
from qtarget.job.inspection.row_audit import audit_rows
from qtarget.job.inspection.row_evidence import CandidateTarget, RowStatistic, candidate_targets, row_interval
from qtarget.job.inspection.token_kinds import token_kind
from qtarget.job.inspection.token_texts import candidate_texts, said_before, said_spans, token_texts
from qtarget.job.inspection.trained_rows import TrainedRow, TrainedRows, choose_rows
from qtarget.target.types import IGNORED

END, BEGIN = 2, 3


def row(number: int, *ids: int, prompt: int = 2) -> TrainedRow:
    labels = np.array([IGNORED] * prompt + list(ids[prompt:]))
    return TrainedRow(number, np.array(ids), labels)


def test_half_of_the_rows_are_a_fair_sample_and_the_worst_are_found():
    rows = [row(n + 1, 9, 9, 10 + n % 3, END) for n in range(400)]
    chosen = choose_rows(rows, 40, 200, 7, lambda each: each.number)
    by = {why: [each.number for each in chosen if each.why == why] for why in ("first", "random", "conflict")}
    assert len(by["random"]) == 20
    assert set(by["first"]) <= set(range(1, 11))
    assert set(by["first"]) | set(by["random"]) >= set(range(1, 11))
    assert len(chosen) == 40
    assert len({each.number for each in chosen}) == 40
    assert min(by["conflict"]) > 300  # of 200 scanned the ten largest
    drawn = [choose_rows(rows, 40, 0, seed, lambda each: 0) for seed in range(60)]
    counts = np.bincount([each.number for many in drawn for each in many if each.why == "random"], minlength=401)
    halves = counts[:201].sum(), counts[201:].sum()
    assert abs(halves[0] - halves[1]) < 0.15 * sum(halves)


def test_no_row_is_scanned_where_none_of_conflict_is_taken():
    rows, scanned = [row(n + 1, 9, 9, 10, END) for n in range(40)], []
    for count in (1, 2, 3):
        chosen = choose_rows(rows, count, 20, 7, lambda each: scanned.append(each.number) or 0.0)
        assert [each.why for each in chosen] == ["random"] * count
    assert scanned == []


@pytest.mark.parametrize(("rows", "scan"), [(100, 0), (100, 5), (100, 16), (70, 5), (70, 256), (1000, 1)])
def test_as_many_rows_are_shown_as_were_asked_for_however_few_are_scanned(rows: int, scan: int):
    """Random rows take the places of what a small scan cannot give; front rows that were drawn leave theirs as well."""
    made = [row(n + 1, 9, 9, 10 + n % 3, END) for n in range(rows)]
    front = 0
    for seed in range(200):
        chosen = choose_rows(made, 64, scan, seed, lambda each: each.number)
        assert len({each.number for each in chosen}) == len(chosen) == 64
        random = [each.number for each in chosen if each.why == "random"]
        assert sum(each.why == "conflict" for each in chosen) <= scan
        assert len(random) >= 32
        front += sum(number <= 16 for number in random) / len(random) / 200
    assert front == pytest.approx(16 / rows, rel=0.1, abs=0.005)  # still a fair sample


def test_where_many_rows_learn_nothing_all_that_learn_are_shown_up_to_as_many_as_asked():
    rows = [row(n + 1, 9, 9, *([10, END] if n % 3 == 0 else []), prompt=2) for n in range(120)]
    for scan in (0, 3, 256):
        chosen = choose_rows(rows, 38, scan, 3, lambda each: 0.0)
        assert len({each.number for each in chosen}) == len(chosen) == 38
        assert len(choose_rows(rows, 64, scan, 3, lambda each: 0.0)) == 40  # of 120 rows 40 learn


def test_few_rows_are_all_taken_and_those_that_learn_nothing_passed_over():
    rows = [row(1, 9, 9, 9, END), row(2, 9, 9, prompt=2), row(3, 8, 8, 8, END)]
    chosen = choose_rows(rows, 64, 256, 0, lambda each: 0.0)
    assert sorted((each.number, each.why) for each in chosen) == [(1, "all"), (3, "all")]


def test_where_all_rows_are_shown_they_stand_in_order_and_figures_are_of_all():
    made = inspect_trainer(looked_at.trainer(data=tiny_models.token_rows(11)), 12, 4)
    assert made.findings.rows == tuple((number, "all") for number in range(1, 12))
    assert (made.findings.sample, made.findings.sample_words) == (11, "all 11 rows")
    some = inspect_trainer(looked_at.trainer(data=tiny_models.token_rows(11)), 8, 0)
    assert len(some.findings.rows) == 8
    assert some.findings.sample_words == "8 random rows"  # both rows of the front are among those drawn


def test_a_row_has_the_number_that_errors_give_it():
    built = looked_at.trainer(data=tiny_models.token_rows(5))
    prepared = TrainedRows(built.train_dataset)
    assert [each.number for each in prepared] == [1, 2, 3, 4, 5]
    made = inspect_trainer(built, 4, 0)
    for number, shown in page_store(made).data["audit_rows"].items():
        assert shown["tokens"] == len(built.train_dataset[int(number) - 1]["input_ids"])
    lengths = [len(each.learned) for each in prepared]
    assert lengths[made.findings.audit.least[0] - 1] == min(lengths)
    assert lengths[made.findings.audit.most[0] - 1] == max(lengths)


def test_the_audit_names_every_fault_and_its_rows():
    tokenizer = tiny_models.tiny_tokenizer()
    tokenizer.bos_token = "<user>"
    masked = TrainedRow(6, np.array([9, 9, 10, END]), np.array([IGNORED, IGNORED, 10, IGNORED]))
    rows = [
        row(1, 9, 9, 10, END),
        row(2, 9, 9, 10, END),
        row(3, 9, 9, prompt=2),
        row(4, *range(20, 36)),
        row(5, 9, 9, 11, 12),
        masked,
        row(7, BEGIN, BEGIN, 10, END),
    ]
    audit = audit_rows(rows, tokenizer, {END}, 16, None)
    found = {line.name: line.numbers for line in audit.lines if line.count}
    assert found == {
        "duplicate": (2,), "unlearned": (3,), "cut": (4,), "no end": (5,), "end masked": (6,), "two begins": (7,)
    }  # fmt: skip
    assert (audit.rows, audit.tokens, audit.learned) == (7, 38, 23)
    assert audit.least[0] == 3
    assert audit.most[0] == 4


def test_an_audit_of_a_larger_set_says_of_which_rows_its_tokens_are(monkeypatch):
    monkeypatch.setattr(row_audit, "AUDITED_ROWS", 4)
    rows = [row(n + 1, 9, 9, 10, END) for n in range(6)]
    audit = audit_rows(rows, tiny_models.tiny_tokenizer(), {END}, 16, None)
    assert (audit.rows, audit.looked, audit.tokens, audit.learned) == (6, 4, 16, 8)


def test_tokens_that_differ_where_prompt_and_answer_meet_are_seen(home):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(home / "qwen2")
    whole = tokenizer("w1 w2")["input_ids"]
    apart = [*tokenizer("w1 ")["input_ids"], *tokenizer("w2")["input_ids"]]
    assert whole != apart
    cut = len(tokenizer("w1 ")["input_ids"])
    rows = [row(1, *apart, END, prompt=cut), row(2, *whole, END, prompt=len(tokenizer("w1")["input_ids"]))]
    audit = audit_rows(rows, tokenizer, {END}, None, None)
    assert next(line for line in audit.lines if line.name == "boundary").numbers == (1,)


def test_texts_of_tokens_join_to_the_sentence(home):
    from transformers import AutoTokenizer

    for folder, sentence in (("qwen2", "w1 w22: größer 日本 🙂 end"), ("llama", "w1 w2 w3")):
        tokenizer = AutoTokenizer.from_pretrained(home / folder)
        ids = tokenizer(sentence)["input_ids"]
        assert "".join(token_texts(ids, tokenizer)) == tokenizer.decode(ids)
        texts = candidate_texts(range(330), tokenizer, 330)
        assert len(texts) == 330
        assert all(texts.values())


CHAT = [
    *("<s>", "sys", "tem", "\n", "Be", " kind", "<e>", "\n"),
    *("<s>", "user", "\n", "Table", " 13", "?", "<e>", "\n"),
    *("<s>", "ass", "istant", "\n", "1", "2", ":", " 6", "<e>", "\n"),
]


def test_an_excerpt_is_of_the_turn_and_the_one_before_without_the_templates_words():
    spans = said_spans(CHAT, [text in ("<s>", "<e>") for text in CHAT])
    assert spans == [(4, 6), (11, 14), (20, 24)]
    assert said_before(CHAT, spans, 20, 40) == "Table 13? ¦ "
    assert said_before(CHAT, spans, 21, 40) == "Table 13? ¦ 1"
    assert said_before(CHAT, spans, 24, 40) == "Table 13? ¦ 12: 6"
    assert said_before(CHAT, spans, 24, 8) == "…13? ¦ …2: 6"
    assert said_before(CHAT, spans, 5, 40) == "Be"
    plain = ["user", "\n", "w1", " w2"]  # no template: nothing is a speaker's name
    assert said_spans(plain, [False] * 4) == [(0, 4)]
    assert said_before(plain, [(0, 4)], 3, 40) == "user\nw1"
    assert said_before(plain, [], 0, 40) == ""


def test_contradicted_labels_stand_row_by_row_and_tell_what_they_follow():
    built = looked_at.trainer()
    table = inspect_trainer(built, 8, 0).table
    for row in table.rows:
        row.numbers["teacher 0 logp_y"] = np.zeros(len(row.row.learned))
    sure = {(2, 3): 0.9, (5, 1): 0.7, (5, 2): 1.0, (2, 4): 0.8, (6, 0): 0.95}
    for (row, at), top in sure.items():
        table.rows[row].numbers["teacher 0 logp_y"][at] = np.log(1e-4)
        table.rows[row].numbers["teacher 0 top_logp"][at] = np.log(top)
        table.rows[row].numbers["teacher 0 top"][at] = 7
    found = surest_against(table, built.text_tokenizer, tiny_models.VOCAB)
    told = [
        (table.rows[row].row.number, int(table.rows[row].row.learned[at]) + 1, follows)
        for row, at, follows in ((5, 1, False), (5, 2, True), (6, 0, False), (2, 3, False), (2, 4, True))
    ]
    assert [(each.row, each.token, each.follows) for each in found] == told
    assert {(each.instead, each.instead_id) for each in found} == {(built.text_tokenizer.decode([7]), 7)}
    assert found[0].label == table.texts[5][found[0].token - 1]


def test_hidden_characters_are_spelled_out_and_line_breaks_seen():
    assert page_text("a\nb\tc") == "a↵\nb⇥c"
    assert page_text("\u202ex\u200b\ufeff\x1b\ud800") == "\\u202ex\\u200b\\ufeff\\x1b\\ud800"
    assert page_text("x" * 10**6).endswith("… (1,000,000 characters)")
    assert len(page_text("x" * 10**6)) < 250


@pytest.mark.parametrize(
    ("text", "kind"),
    [(" 12", "digits"), ("3.5", "digits"), (" =", "operators"), (" Hence", "connectives"), ("ing", "words"),
     ("don't", "words"), (",", "punctuation"), ("\n\n", "layout"), ("a1", "others"), ("größer", "words")],
)  # fmt: skip
def test_kinds(text: str, kind: str):
    assert token_kind(text, False) == kind
    assert token_kind(text, True) == "ends"


def test_a_kind_far_above_all_others_is_flagged_though_its_median_is_too():
    class Table:
        kinds = np.array(["digits"] * 4 + ["words"] * 4 + ["ends"] * 2)

        def __init__(self, *nll: float) -> None:
            self.nll = np.array(nll)

        def number(self, name: str) -> np.ndarray:
            return {"logp_y": -self.nll}[name]

    remarks = lambda *nll: {each.kind: each.remark for each in kind_figures(Table(*nll))}  # noqa: E731
    far = remarks(0.2, 0.3, 0.2, 0.3, 1.0, 2.0, 1.5, 1.5, 11.4, 11.2)
    assert far == {"digits": "", "words": "", "ends": "far above every other kind"}
    few = remarks(0.0, 0.0, 0.0, 9.0, 1.0, 2.0, 1.5, 1.5, 0.1, 0.1)
    assert few == {"digits": "mean far above the median", "words": "", "ends": ""}


def test_intervals_take_rows_as_units_and_hold_what_they_promise():
    rng = np.random.default_rng(0)
    holds = 0
    for _ in range(200):
        level = rng.beta(2, 2, 32)  # rows differ, and tokens of one row are alike
        lengths = rng.integers(5, 50, 32)
        parts = rng.binomial(lengths, level).astype(float)
        found = row_interval(parts, lengths.astype(float))
        holds += found.low <= 0.5 <= found.high
    assert 0.88 <= holds / 200 <= 0.99
    assert row_interval(np.ones(7), np.ones(7)) is None


def test_candidates_follow_the_statistics_and_begin_with_sft():
    def lines(teachers: int, **values: float) -> list[str]:
        named = {"p_y": 0.7, "p_y below 0.1": 0.1, "teacher 0 gain": 0.1, "teacher 0 contradicts": 0.1, **values}
        statistics = [RowStatistic(name, "", value, None, "") for name, value in named.items()]
        found: list[CandidateTarget] = candidate_targets(statistics, teachers)
        assert 2 <= len(found) <= 3
        return [each.line.partition("\n")[0] for each in found]

    assert lines(1) == ["method: sft", "method: target-sft", "method: kd"]
    assert lines(0) == ["method: sft", "method: dft", "method: beyond-log"]
    assert lines(0, p_y=0.4) == ["method: sft", "method: beyond-log", "method: dft"]
    assert lines(0, p_y=0.2) == ["method: sft", "method: beyond-log"]


def test_a_stream_is_read_at_its_beginning():
    stream = tiny_models.token_rows(6).to_iterable_dataset()
    assert len(TrainedRows(stream)) == 6
