"""Logs for Inspect: their content here, and Inspect's own reader and metrics where it is installed."""

import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from evaluate.answered import answers, changed

from qtarget.evaluate.compare.arms import Arm
from qtarget.evaluate.compare.inspect_export import export_inspect
from qtarget.evaluate.confidence import shares_of
from qtarget.evaluate.confidence.intervals import squared_error
from qtarget.evaluate.confidence.units import by_unit

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEVELS = np.random.default_rng(1).uniform(0, 1, 21)


@pytest.fixture
def exported(tmp_path):
    """Clusters of four, four, …, and one question."""
    one = answers(LEVELS, clusters=4, cut=0.3)
    return one, export_inspect([Arm("sft, eta=0.5", ({"t": one}, {"t": one}))], tmp_path, CREATED)


def clustered_error(one):
    shares = shares_of([[r.grade for r in own] for own in one.records], one.ask.k)
    return math.sqrt(squared_error(by_unit(shares, [q.unit for q in one.questions])))


def test_a_log_a_seed_with_every_sample_its_grade_and_its_cluster(exported):
    one, logs = exported
    assert [log.name[:47] for log in logs] == [
        "2026-01-02T03-04-05+00-00_sft-eta-0.5-t_" + log.stem[-16:][:7] for log in logs
    ]
    assert len({log.name for log in logs}) == 2
    log = json.loads(logs[0].read_text())
    assert len(log["samples"]) == 21 * 4
    first = log["samples"][5]
    record = one.records[1][1]
    assert (first["id"], first["epoch"]) == (record.qid, 2)
    assert first["scores"]["exact"]["value"] == ("C" if record.grade else "I")
    assert (
        first["output"]["choices"][0]["stop_reason"] == {"stop": "stop", "length": "max_tokens"}[record.finish_reason]
    )
    assert first["metadata"]["cluster"] == "c0"
    rows = [json.loads(line) for line in (logs[0].parent / "tasks" / "t.jsonl").read_text().splitlines()]
    assert rows[3] == {"id": "q3", "input": "What is 3?", "target": "3", "metadata": {"cluster": "c0"}}


def test_the_results_are_average_at_k_and_its_clustered_error(exported):
    one, logs = exported
    metrics = json.loads(logs[0].read_text())["results"]["scores"][0]["metrics"]
    assert metrics["accuracy"]["value"] == pytest.approx(np.mean([[r.grade for r in own] for own in one.records]))
    assert metrics["stderr"]["value"] == pytest.approx(clustered_error(one))


def test_an_unknown_grade_is_no_answer(tmp_path):
    one = changed(answers(LEVELS[:2]), grade=None, grade_reason="timeout")
    (path,) = export_inspect([Arm("a", ({"t": one},))], tmp_path, CREATED)
    score = json.loads(path.read_text())["samples"][0]["scores"]["exact"]
    assert (score["value"], score["explanation"]) == ("N", "timeout")


def test_inspect_reads_the_logs_and_computes_the_same(exported):
    log_room = pytest.importorskip("inspect_ai.log", reason="the extra `inspect` is not installed")
    one, logs = exported
    listed = log_room.list_eval_logs(str(logs[0].parent))
    assert {info.task for info in listed} == {"sft-eta-0.5-t"}
    assert len(listed) == 2
    read = log_room.read_eval_log(str(logs[0]))
    assert len(read.samples) == 21 * 4
    read.results = None
    log_room.recompute_metrics(read)
    recomputed = read.results.scores[0].metrics
    assert recomputed["accuracy"].value == pytest.approx(np.mean([[r.grade for r in own] for own in one.records]))


def test_our_error_is_inspects_clustered_one(exported):
    scorer = pytest.importorskip("inspect_ai.scorer", reason="the extra `inspect` is not installed")
    one, _ = exported
    shares = shares_of([[r.grade for r in own] for own in one.records], one.ask.k)
    scores = [
        scorer.SampleScore(score=scorer.Score(value=float(share)), sample_id=q.qid, sample_metadata={"cluster": q.unit})
        for share, q in zip(shares, one.questions, strict=True)
    ]
    assert scorer.stderr(cluster="cluster")(scores) == pytest.approx(clustered_error(one), rel=1e-9)
    single = [s.model_copy(update={"sample_metadata": {"cluster": s.sample_id}}) for s in scores]
    assert scorer.stderr(cluster="cluster")(single) == pytest.approx(math.sqrt(squared_error(shares)), rel=1e-9)


def test_inspect_reads_the_questions(exported):
    dataset = pytest.importorskip("inspect_ai.dataset", reason="the extra `inspect` is not installed")
    one, logs = exported
    samples = dataset.json_dataset(str(logs[0].parent / "tasks" / "t.jsonl"))
    assert [(s.id, s.target) for s in samples] == [(q.qid, q.gold) for q in one.questions]
