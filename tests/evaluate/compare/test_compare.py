"""`qtarget compare`: its numbers against the statistics, what it refuses, what it warns of, what it writes."""

import io
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from evaluate.answered import answers, changed, write_folder
from matplotlib.image import imread
from rich.console import Console

from qtarget.cli.main import main
from qtarget.evaluate.compare.arms import Arm, read_arms
from qtarget.evaluate.compare.tables import compare_arms
from qtarget.evaluate.compare.view import comparison_view
from qtarget.evaluate.confidence import holm, paired_seeds, paired_suite
from qtarget.evaluate.confidence.quantiles import student_quantile

RNG = np.random.default_rng(0)
LEVELS = {"t": RNG.uniform(0, 0.8, 40), "u": RNG.uniform(0, 0.8, 12)}


def arm(name, gain=0.0, seeds=1, tasks=("t",), base=0, **facts):
    """An arm that is `gain` better than the levels."""
    return Arm(
        name,
        tuple(
            {task: answers(LEVELS[task] + gain, task=task, seed=base + 10 * s + len(task), **facts) for task in tasks}
            for s in range(seeds)
        ),
    )


def shown(found, width=120):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(comparison_view(found, width))
    return console.export_text()


def test_the_table_is_the_paired_statistics_of_the_grades():
    arms = [arm("sft", base=1, seeds=3), arm("dft", 0.02, base=2, seeds=3), arm("target-sft", 0.2, base=3, seeds=3)]
    (table,) = compare_arms(arms).tasks
    grades = [[[r.grade for r in own] for own in seed["t"].records] for seed in arms[2].seeds]
    shares = [np.mean([[r for r in q] for q in seed], axis=1) for seed in grades]
    sft = [np.mean([[r.grade for r in own] for own in seed["t"].records], axis=1) for seed in arms[0].seeds]
    by_hand = paired_seeds(np.array(shares), np.array(sft))
    assert table.scores[2].against.difference == by_hand
    assert table.scores[2].average.mean == pytest.approx(np.mean(shares))
    assert table.scores[0].against is None
    ps = [score.against.difference.p for score in table.scores[1:]]
    assert [score.p_holm for score in table.scores[1:]] == holm(ps)
    assert [score.is_clear for score in table.scores] == [False, False, True]


def test_a_suite_is_the_mean_of_its_tasks():
    arms = [arm("a", tasks=("t", "u"), base=1, seeds=2), arm("b", 0.2, tasks=("t", "u"), base=2, seeds=2)]
    (suite,) = compare_arms(arms).suites
    by_hand = paired_suite([arms[1].shares(t) for t in "tu"], [arms[0].shares(t) for t in "tu"])
    assert suite.scores[1].against == by_hand
    assert suite.tasks == ("t", "u")
    assert compare_arms([arm("a"), arm("b")]).suites == ()


def test_a_suites_clusters_count_once():
    arms = [arm("a", tasks=("t", "u"), base=1, clusters=4), arm("b", 0.2, tasks=("t", "u"), base=2, clusters=4)]
    (suite,) = compare_arms(arms).suites
    units = [[question.unit for question in arms[0].seeds[0][task].questions] for task in "tu"]
    tables = [[one.shares(task) for task in "tu"] for one in arms]
    assert suite.scores[1].against == paired_suite(tables[1], tables[0], units)
    assert suite.scores[1].against != paired_suite(tables[1], tables[0])


def test_a_model_that_was_not_trained_stands_beside_several_seeds():
    arms = [arm("sft", seeds=3, base=1), arm("base", -0.2, base=2)]
    found = compare_arms(arms)
    difference = found.tasks[0].scores[1].against.difference
    repeated = np.repeat(np.array(arms[1].shares("t")), 3, 0)
    assert difference == paired_seeds(repeated, np.array(arms[0].shares("t")))
    assert not found.evaluation_noise_only
    assert any("base: one folder beside several seeds" in text for text in found.warnings)


def test_clusters_are_resampled_not_their_questions():
    alone, together = (compare_arms([arm("a", base=1, clusters=c), arm("b", 0.1, base=2, clusters=c)]) for c in (1, 4))
    assert (alone.tasks[0].n_units, together.tasks[0].n_units) == (40, 10)
    pairs = [(found.tasks[0].scores[1].against.difference, n) for found, n in ((alone, 40), (together, 10))]
    for difference, n_units in pairs:
        half = student_quantile(0.975, n_units + 1) * difference.error
        assert difference.high - difference.mean == pytest.approx(half)


def other(one, **changes):
    return Arm("b", ({"t": replace(one, **changes)},))


ONE = answers(LEVELS["t"])


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        (other(ONE, ask=replace(ONE.ask, temperature=0.6)), "temperature 1.0 and 0.6. Evaluate one again with --temp"),
        (other(ONE, ask=replace(ONE.ask, max_new_tokens=99)), "max_new_tokens 4096 and 99.*--max-new-tokens 4096"),
        (other(ONE, ask=replace(ONE.ask, prompt="chat")), "prompt plain and chat"),
        (other(ONE, task=replace(ONE.task, version=2)), "version of the task 1 and 2"),
        (other(ONE, questions=ONE.questions[:-1], records=ONE.records[:-1]), "40 and 39 questions"),
        (
            other(ONE, questions=(replace(ONE.questions[0], gold="7"), *ONE.questions[1:])),
            r"question 1 is 'q0' \('What is 0\?', gold '0'\) and 'q0' \('What is 0\?', gold '7'\)",
        ),
        (other(changed(ONE, prompt_ids_sha256="x")), "prompt of question 'q0' has other token ids"),
        (other(changed(ONE, grader_fp="g2")), "graded by different graders.*--regrade"),
        (other(ONE, records=(ONE.records[0][:-1], *ONE.records[1:])), "'q0' has 3 samples.*exactly 4"),
        (Arm("b", ({"v": ONE},)), r"No task was answered by all arms \(a: t; b: v\)"),
    ],
)
def test_arms_that_differ_in_more_than_the_model_are_refused_by_the_first_difference(second, complaint):
    with pytest.raises(ValueError, match=complaint):
        compare_arms([Arm("a", ({"t": ONE},)), second])


def test_the_seed_of_the_samples_may_differ():
    compare_arms([Arm("a", ({"t": ONE},)), other(ONE, ask=replace(ONE.ask, seed=5))])


def test_seeds_that_cannot_be_paired_and_a_lonely_arm_are_refused():
    with pytest.raises(ValueError, match="b has 2 training seeds and another arm 3"):
        compare_arms([arm("a", seeds=3), arm("b", seeds=2)])
    with pytest.raises(ValueError, match="two arms or more"):
        compare_arms([arm("a")])


def test_what_a_reader_should_know_is_said():
    identical = tuple(tuple(replace(r, completion="same") for r in own) for own in ONE.records)
    unknown = ((replace(ONE.records[0][0], grade=None, grade_reason="timeout"), *ONE.records[0][1:]), *ONE.records[1:])
    found = compare_arms(
        [
            arm("a", cut=0.0, tasks=("t", "u")),
            arm("b", cut=0.2),
            Arm("c", ({"t": replace(ONE, records=identical)},)),
            Arm("d", ({"t": replace(ONE, records=unknown, generation={"engine": "vllm", "version": "1"})},)),
        ]
    )
    told = "\n".join(found.warnings)
    assert "one training seed each: the intervals are of evaluation noise only" in told
    assert "u was not answered by every arm and is left out" in told
    assert "of b's completions were cut off and 0% of " in told
    assert "t, b: " in told
    assert "samples of 40 of 40 questions are identical" in told
    assert "1 samples have no known grade" in told
    assert "a was drawn with engine 'transformers', d with 'vllm'" in told
    assert compare_arms([arm("a"), arm("b")]).warnings == (found.warnings[1],)


def test_two_seeds_are_called_few():
    assert any("two training seeds" in text for text in compare_arms([arm("a", seeds=2), arm("b", seeds=2)]).warnings)


def test_the_view_shows_differences_effects_and_edges():
    found = compare_arms([arm("a", base=1, seeds=3), arm("b", -1, base=2, seeds=3), arm("c", 0.15, base=3, seeds=3)])
    text = shown(found)
    difference = found.tasks[0].scores[2].against.difference
    expected = f"{100 * difference.mean:+.1f} ({100 * difference.low:+.1f}, {100 * difference.high:+.1f})*"
    assert expected in text
    assert "b is at the edge; Beta-binomial credible interval (0.0, " in text
    assert "adjusted for 2 arms by Holm" in text
    assert "distinct answers" in text
    assert "bootstrap" not in shown(found, width=80)
    assert max(map(len, shown(found, width=80).splitlines())) <= 80


def test_the_view_says_what_to_do_to_see_a_smaller_difference():
    found = compare_arms([arm("a", base=1), arm("b", 0.05, base=2)])
    (table,), flat = found.tasks, " ".join(shown(found).split())
    power = table.scores[1].against.power
    assert power.smallest > power.gain
    assert f"{table.n_questions} questions show a difference of {100 * power.smallest:.1f} points or more" in flat
    assert f"To see one of 2: ask {power.questions:,} questions in all." in flat
    assert "More samples of each question (--k), however many, narrow an average's interval by at most " in flat
    seeds = compare_arms([arm("a", base=1, seeds=2), arm("b", 0.05, base=2, seeds=2)])
    hidden = replace_power(seeds, questions=None)
    assert "To see one of 2: train each arm with more seeds" in " ".join(shown(hidden).split())
    assert "To see one of" not in " ".join(shown(replace_power(found, smallest=0.01)).split())


def replace_power(tables, **changes):
    """The tables with other figures of power."""
    (table,) = tables.tasks
    scores = [
        score if score.against is None else replace(score, against=against_with(score.against, changes))
        for score in table.scores
    ]
    return replace(tables, tasks=(replace(table, scores=tuple(scores)),))


def against_with(against, changes):
    return replace(against, power=replace(against.power, **changes))


@pytest.fixture
def folders(tmp_path):
    effects = {"calibration": {"ece": 0.25}, "forgetting": {"kl": 0.125}}
    made = {}
    for name, gain in (("sft", 0.0), ("target", 0.2)):
        for seed in range(2):
            one = answers(LEVELS["t"] + gain, seed=seed + len(name))
            made[f"{name}{seed}"] = write_folder(tmp_path / f"{name}{seed}", one, effects=effects)
    return made


def words(folders):
    return [f"{name}={folders[name + '0']},{folders[name + '1']}" for name in ("sft", "target")]


def test_the_command_writes_table_picture_and_json(folders, tmp_path, capsys):
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as left:
        main(["compare", *words(folders), "--out", str(out), "--json"])
    assert left.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    found = compare_arms(read_arms(words(folders)))
    assert printed == json.loads(json.dumps(asdict(found)))
    assert json.loads((out / "comparison.json").read_text()) == printed
    assert "forgetting KL" in (out / "comparison.txt").read_text()
    assert found.tasks[0].scores[1].effects.ece == 0.25
    picture = imread(out / "comparison.png")
    assert picture.shape[0] > 150
    assert picture.std() > 0.01


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["nowhere", "elsewhere"], "nowhere is no folder"),
        (["a={sft0}", "a={sft1}"], "Two arms are called 'a'"),
        (["{sft0}"], "two arms or more"),
        (["{sft0}", "{target0}", "--to", "html"], "--to html is not known"),
        (["{sft0}", "{target0}", "--to", "inspect"], "needs a folder"),
    ],
)
def test_what_the_command_cannot_do_is_refused(folders, given, complaint, capsys):
    with pytest.raises(SystemExit) as left:
        main(["compare", *(word.format(**folders) for word in given)])
    assert left.value.code == 2
    assert complaint in capsys.readouterr().err


def test_different_limits_of_tokens_are_compared_only_when_asked():
    longer = other(ONE, ask=replace(ONE.ask, max_new_tokens=32768))
    with pytest.raises(ValueError, match=r"max_new_tokens 4096 and 32768.*Or write --any-budget"):
        compare_arms([arm("a"), longer])
    found = compare_arms([arm("a"), longer], any_budget=True)
    assert found.tasks[0].max_new_tokens == (4096, 32768)
    assert "4 samples each, of at most 4,096 or 32,768 tokens" in shown(found)
    assert any("different limits of tokens (a 4,096, b 32,768)" in text for text in found.warnings)
    assert "4 samples each, of at most 4,096 tokens" in shown(compare_arms([arm("a"), arm("b")]))
    warmer = other(ONE, ask=replace(ONE.ask, max_new_tokens=32768, temperature=0.6))
    with pytest.raises(ValueError, match="temperature"):
        compare_arms([arm("a"), warmer], any_budget=True)
