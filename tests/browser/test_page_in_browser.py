"""The page of `qtarget inspect` in a real browser, over a real run of the lab's models and over hostile rows.

Needs playwright and a Chromium of the machine: `make test-browser` installs both. Screenshots stay in build/browser.
"""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from job.inspection import looked_at
from job.inspection.stored_targets import ALL, SETTINGS, from_stored, growth_of_rounding

import qtarget as qt
from qtarget import lab
from qtarget.job.build import build_trainer
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.read_job import read_job
from qtarget.job.inspection.html_page.target_page import SCRIPT_FILES, write_target_page
from qtarget.job.inspection.inspect_job import Inspection, inspect_trainer
from qtarget.job.inspection.likeliest_tokens import Keeping
from qtarget.job.inspection.open_methods import not_moved
from qtarget.job.inspection.token_table import map_regions

playwright = pytest.importorskip("playwright.sync_api", reason="`make test-browser` installs playwright")
CHROMIUM = next(
    (found for name in ("chromium", "google-chrome", "chromium-browser") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="`make test-browser` installs a Chromium")
SHOTS = Path(__file__).parents[2] / "build" / "browser"
WIDER = """() => [...document.querySelectorAll("body *")].filter((node) =>
    node.getBoundingClientRect().right > innerWidth + 1 && !node.closest(".scroll, #row-list, .list, .u-wrap")
).map((node) => `${node.tagName} #${node.id} .${node.className} ${node.getBoundingClientRect().right}`).slice(0, 20)"""
"""What stands out of the screen on the right, but for what scrolls by itself."""
TOO_WIDE = """() => [...document.querySelectorAll("table, canvas")].map((node) => [node.getBoundingClientRect().right,
    node.parentElement.id || node.parentElement.parentElement.id]).filter(([right]) => right > innerWidth)"""
OUT_OF_LIST = """() => {
    const [list, token] = ["#row-list", "#row-list .t.here"].map((each) => document.querySelector(each));
    const [outer, inner] = [list, token].map((each) => each.getBoundingClientRect());
    return outer.top <= inner.top && inner.bottom <= outer.bottom ? [] : [outer, inner];
}"""
"""Where the list's box and the chosen token are, if that does not stand inside."""
WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
HOSTILE = [
    "<script>window.pwned=1;alert(1)</script>",
    "<img/src=x/onerror=window.pwned=2>",
    "<svg/onload=window.pwned=3>",
    "</script><script>window.pwned=4</script>",
    "<style>*{display:none}</style>",
    "javascript:window.pwned=5",
    "\u202egnp.exe\u2066",
    "a\u200bb\ufeffc\u2060",
    "\u2028\u2029\x07\x1b[31m",
    "{{title}}{store}",
    "&lt;b&gt;&#x3C;i",
    "x" * 1_000_000,
]


@pytest.fixture(scope="module")
def of_lab(tmp_path_factory) -> tuple[Inspection, Path]:
    """The lab's noisy demonstrations under Target-SFT; every token is kept, so that targets are exact."""
    folder, world = tmp_path_factory.mktemp("lab"), lab.world("weak-operator")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in lab.demonstrations(world, 0)[:120]))
    config = folder / "config.yaml"
    lines = {
        "model": lab.student_path(world), "teacher": lab.teacher_path(world), "train_dataset": rows,
        "method": "target-sft", "output_dir": folder / "out", "max_steps": 1, "use_cpu": "true",
    }  # fmt: skip
    config.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    made = inspect_trainer(build_trainer(read_job(RunArguments(config, {}))), 32, 40, ALL)
    page = folder / "inspect.html"
    write_target_page(page, made)
    return made, page


@pytest.fixture(scope="module")
def of_hostile_rows(tmp_path_factory) -> Path:
    """Rows whose tokens are hostile texts."""
    tokenizer = tiny_models.tiny_tokenizer()
    tokenizer.add_tokens(HOSTILE)
    tokens = tokenizer.convert_tokens_to_ids(HOSTILE)
    rows = [{"input_ids": [9, 10, *tokens, 2], "labels": [-100, -100, *tokens, 2]} for _ in range(4)]
    built = looked_at.trainer(
        data=tiny_models.Dataset.from_list(rows), tokenizer=tokenizer, vocabulary=len(tokenizer), max_length=64
    )
    page = tmp_path_factory.mktemp("hostile") / "inspect.html"
    write_target_page(page, inspect_trainer(built, 4, 0))
    return page


class Seen:
    """A page that is open, and what it did that it should not."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.faults: list[str] = []
        self.page = browser.new_context(viewport=WIDE, **context).new_page()
        self.page.on("console", lambda said: self.faults.append(f"console: {said.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda asked: self._ask(asked.url, path))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("globalThis.qtargetPage !== undefined")

    def _ask(self, url: str, path: Path) -> None:
        if url != path.as_uri():
            self.faults.append(f"request: {url[:100]}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def test_sliders_move_every_target_to_the_definitions(browser, of_lab):
    made, path = of_lab
    seen = Seen(browser, path)
    for name, settings in [(each, s) for each in qt.METHODS for s in ({}, *SETTINGS.get(each, []))]:
        if name not in made.found.open.methods or name == "excess-loss-selected":  # at step 0 all its tokens tie
            continue
        seen.page.select_option("#method", name)
        for key, value in settings.items():
            move(seen.page, name, key, value)
        targets = seen.page.evaluate("""() => qtargetPage.state.targets.map((target, t) => [
            target.trust, target.q, qtargetPage.tokens[t].candidates.map((each) => qtargetPage.store.ids[each])])""")
        expected = from_stored(made, name, settings)
        assert len(targets) == len(expected)
        grown = growth_of_rounding(made, name)
        for (trust, q, ids), (wanted, wanted_trust, _), growth in zip(targets, expected, grown, strict=True):
            size = max(growth, abs(float(wanted_trust)))
            assert trust == pytest.approx(float(wanted_trust), abs=2e-6, rel=2e-5)
            assert max(abs(a - b) for a, b in zip(q, wanted[ids].tolist(), strict=True)) <= 2e-6 * size, (
                name,
                settings,
            )
        shown = seen.page.locator("#token tr.label td").last.inner_text()
        at = seen.page.evaluate("qtargetPage.state.token")
        label = seen.page.evaluate(f"qtargetPage.state.targets[{at}].q[qtargetPage.tokens[{at}].label]")
        assert shown == ("–" if label is None else f"{label:.1e}" if abs(label) >= 1e4 else f"{label:.4f}") or abs(
            float(shown) - label) <= 6e-5  # fmt: skip
    assert seen.faults == []


def move(page: Any, name: str, key: str, value: Any) -> None:
    """Move one control, as a person would: choose of a list, or type a number."""
    choice = page.locator(f'#settings select[aria-label="{key}"]')
    if choice.count():
        labels = [str(each) for each in choice.locator("option").all_inner_texts()]
        wanted = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        if wanted in labels:
            choice.select_option(label=wanted)
            return
        page.evaluate(
            f"qtargetPage.chooseMethod({json.dumps(name)}, {{...qtargetPage.state.settings, {key}: {value}}})"
        )
        return
    number = page.locator(f'#settings input[aria-label="{key}, as a number"]')
    if number.count() and not isinstance(value, dict | str):
        number.fill(str(value))
        return
    given = (
        f"{{...qtargetPage.state.settings, {key}: {json.dumps(value)}}}"  # a schedule and a statistic have no control
    )
    page.evaluate(f"qtargetPage.chooseMethod({json.dumps(name)}, {given})")


def test_a_slider_itself_moves_the_target(browser, of_lab):
    seen = Seen(browser, of_lab[1])
    trust = lambda: seen.page.locator('[data-fact="KL(Q‖p)"]').inner_text()  # noqa: E731
    before = trust()
    seen.page.focus('#settings input[type="range"]')
    for _ in range(60):
        seen.page.keyboard.press("ArrowRight")
    assert seen.page.evaluate("qtargetPage.state.settings.eta") == pytest.approx(0.8)
    assert trust() != before
    assert seen.faults == []


def test_a_method_that_is_not_moved_says_so_and_one_that_follows_the_run_says_where(browser, of_lab):
    made, path = of_lab
    seen = Seen(browser, path)
    note = seen.page.locator("#method-note")
    assert not note.is_visible()  # target-sft without a schedule
    for name, why in not_moved().items():
        seen.page.select_option("#method", label=f"{name} (as measured, not moved)")
        assert f"The page does not move {name}" in note.inner_text()
        assert why in note.inner_text()
        assert seen.page.locator("#settings input, #settings select").count() == 0
        assert "strength 1.25" in " ".join(seen.page.locator("#settings").inner_text().split())
        assert seen.page.locator("#token tr.label td").last.inner_text() != "–"
    seen.page.select_option("#method", "taid")
    assert "The table of methods holds at progress 0." in note.inner_text()
    assert "taid changes along a run: its figures hold at progress 0." in seen.page.inner_text("#methods-body")
    move(seen.page, "taid", "progress", 0.5)
    at = seen.page.evaluate("qtargetPage.state.token")
    label = seen.page.evaluate(f"qtargetPage.state.targets[{at}].q[qtargetPage.tokens[{at}].label]")
    place = seen.page.evaluate(f"(({{row, place}}) => [row, place])(qtargetPage.tokens[{at}])")
    token = int(made.found.rows[place[0]].row.ids[place[1]])
    q, *_ = from_stored(made, "taid", {"progress": 0.5})[at]
    assert label == pytest.approx(float(q[token]), abs=2e-6)
    assert label != pytest.approx(float(from_stored(made, "taid", {})[at][0][token]), abs=1e-6)
    assert seen.faults == []


def test_a_token_is_shown_under_every_method(browser, of_lab):
    made, path = of_lab
    seen = Seen(browser, path)
    at = seen.page.evaluate("qtargetPage.state.token")
    assert seen.page.locator("#every-method").get_attribute("open") is not None
    below = "(a, b) => (document.querySelector(a).compareDocumentPosition(document.querySelector(b)) & 4) > 0"
    assert seen.page.evaluate(f"({below})('#token tr.label', '#every-method')")
    lines = seen.page.locator("#every-method tbody tr").all_inner_texts()
    heads = seen.page.locator("#every-method th").all_inner_texts()
    assert [each.split("\n")[0].strip() for each in heads] == ["method", "toward", "label", "teacher", "pull"]
    now, of_label, of_teacher = seen.page.evaluate(f"""(s => [s.p, s.label, s.teacherLogps[0].indexOf(
        Math.max(...s.teacherLogps[0]))])(qtargetPage.tokens[{at}])""")
    name, _, label, *_ = lines.pop(0).split("\t")
    assert (name, float(label)) == ("the model now", pytest.approx(now, abs=6e-4))
    assert len(lines) == len(made.found.open.methods)
    labels = [float(line.split("\t")[2]) for line in lines[1:]]
    assert labels == sorted(labels, reverse=True)
    for line in lines:
        name, toward, label, *_ = line.split("\t")
        name, *mark = name.split()
        q, _, _ = from_stored(made, name, {})[at]
        assert mark == ["improper"] * bool(q.min() < -1e-6)
        s = seen.page.evaluate(f"(({{row, place}}) => [row, place])(qtargetPage.tokens[{at}])")
        token = int(made.found.rows[s[0]].row.ids[s[1]])
        if name != "excess-loss-selected":
            assert float(label) == pytest.approx(float(q[token]), abs=6e-4, rel=1e-3)
            gained = q.double() - from_stored(made, "dft", {"trust": 0.0})[at][0].double()
            ids = seen.page.evaluate(f"qtargetPage.tokens[{at}].candidates.map((each) => qtargetPage.store.ids[each])")
            to_label, to_teacher = (float(gained[ids[k]]) for k in (of_label, of_teacher))
            least = 0.01 if max(to_label, to_teacher) >= 0.01 else None
            wanted = "label" if to_label >= to_teacher else "teacher"
            assert toward == (wanted if least else "stays" if gained.abs().max() < 0.01 else "others"), name
    move(seen.page, "target-sft", "eta", 1)  # the chosen method stands first, as the menu has it
    first = seen.page.locator("#every-method tbody tr").nth(1)
    assert first.get_attribute("class") == "chosen"
    name, _, label, _, pull = first.inner_text().split("\t")
    assert (name, pull) == ("target-sft", seen.page.inner_text('[data-fact="pull"]'))
    assert float(label) == pytest.approx(float(from_stored(made, "target-sft", {"eta": 1})[at][0][token]), abs=6e-4)
    assert "target-sft as the menu has it now" in seen.page.inner_text("#every-method")
    assert "not this table" in seen.page.inner_text("#methods-body")
    move(seen.page, "gem", "beta", 0.7)
    seen.page.select_option("#method", "gem")
    assert seen.page.locator("#every-method tbody tr").nth(1).inner_text().startswith("gem")
    assert "prift as dft" in seen.page.inner_text("#methods-body")
    seen.page.locator("#every-method button").filter(has_text="eaft").click()
    assert seen.page.input_value("#method") == "eaft"
    assert seen.page.evaluate("[document.activeElement.textContent, document.getElementById('token').scrollTop]") == [
        "eaft",
        0,
    ]
    assert "(H_top-k / log k)^power" in seen.page.inner_text("#formula")
    assert qt.METHODS["eaft"].__doc__.partition("\n")[0] in seen.page.inner_text("#method-gloss")
    assert seen.faults == []


def test_what_the_page_cannot_know_is_shown_with_the_digits_that_it_knows(browser, tmp_path):
    pages, built = [tmp_path / name for name in ("few.html", "all.html")], looked_at.trainer()
    for path, keep in zip(pages, (Keeping(6, 0.9), ALL), strict=True):
        write_target_page(path, inspect_trainer(built, 4, 0, keep))
    few, whole = (Seen(browser, path) for path in pages)
    few.page.select_option("#method", "target-sft")
    loosest = "Math.max(...qtargetPage.state.targets.flatMap((each) => each.bound))"
    assert few.page.evaluate(loosest) < 1e-6  # the run's own settings
    seen = 0
    for eta, temperature in ((0.15, 1), (0.85, 1), (0.35, 1), (0.3, 0.3), (0, 1), (1, 1)):
        settings = f"{{...qtargetPage.state.settings, eta: {eta}, teacher_temperature: {temperature}}}"
        for each in (few, whole):
            each.page.evaluate(f"qtargetPage.chooseMethod('target-sft', {settings})")
        for at in few.page.evaluate("qtargetPage.tokens.map((s) => s.at)")[::3]:
            for each in (few, whole):
                each.page.evaluate(f"qtargetPage.select({at}, false)")
            cells = [
                dict(
                    each.page.eval_on_selector_all(
                        "#token tr[data-candidate]",
                        "nodes => nodes.map((node) => [node.dataset.candidate, node.lastChild.textContent])",
                    )
                )
                for each in (few, whole)
            ]
            facts = [
                [each.page.inner_text(f'[data-fact="{fact}"]') for each in (few, whole)] for fact in ("pull", "KL(Q‖p)")
            ]
            pairs = [(cells[0][key], cells[1][key], 4) for key in cells[0].keys() & cells[1].keys()]
            for shown, exact, digits in [*pairs, *((*fact, 3) for fact in facts)]:
                seen += holds(shown, float(exact), digits)
        shares = [
            [each.rpartition("of tokens\n")[2].removesuffix("% of the pull") for each in regions]
            for regions in (page.page.locator("#regions button").all_inner_texts() for page in (few, whole))
        ]
        for shown, exact in zip(*shares, strict=True):
            low, _, high = shown.partition(" … ")
            assert float(low) - 0.051 <= float(exact) <= float(high or low) + 0.051, (eta, shown, exact)
        is_rough = any("…" in each for each in shares[0])
        if eta == 0:
            assert shares[0] == shares[1]
        assert is_rough == few.page.locator("#map-rough").is_visible()
        assert is_rough or temperature == 1
        assert not is_rough or eta not in (0, 1)
    assert seen > 50
    few.page.evaluate("qtargetPage.chooseMethod('target-sft', {...qtargetPage.state.settings, eta: 0.15})")
    assert "within 1 of its last digit" in few.page.inner_text("#rough")
    assert {"≈", "…"} & set(few.page.locator("#every-method tr.chosen").inner_text())
    assert "≈" not in few.page.locator("#every-method tbody tr").filter(has_text="dft").first.inner_text()
    assert few.faults == whole.faults == []


def holds(shown: str, exact: float, digits: int) -> bool:
    """Whether a number is shown as known roughly; what is shown holds the exact one, whichever way it is."""
    low, between, high = shown.partition(" … ")
    value = float(low.strip("≈≥ "))
    last = 10.0 ** -len(low.partition(".")[2])
    if between:
        assert value - 1e-3 <= exact <= float(high) + 1e-3, shown
    elif shown.startswith("≥"):
        assert exact >= value - 1e-3, (shown, exact)
    elif shown.startswith("≈"):
        assert abs(value - exact) <= last * 1.001, (shown, exact)
    else:
        assert abs(value - exact) <= 10.0**-digits * 1.1, (shown, exact)
    return bool(between) or shown[0] in "≈≥"


def test_a_number_that_is_refused_says_so_and_the_runs_own_come_back(browser, of_lab):
    seen = Seen(browser, of_lab[1])
    page, back = seen.page, seen.page.locator("#back")
    settings = lambda: page.evaluate("qtargetPage.state.settings")  # noqa: E731
    own = settings()
    assert not back.is_visible()
    assert page.locator('#settings input[type="range"][aria-label="teacher_temperature"]').input_value() == "1"
    for name, value, says in (
        ("eta", "7", "from 0 to 1"),
        ("eta", "", "from 0 to 1"),
        ("teacher_temperature", "0", "above 0"),
    ):
        box = page.locator(f'#settings input[aria-label="{name}, as a number"]')
        box.fill(value)
        assert box.get_attribute("aria-invalid") == "true"
        assert says in page.inner_text("#settings")
        assert settings() == own
        box.fill("0.25")
        assert box.get_attribute("aria-invalid") == "false"
        assert says not in page.inner_text("#settings")
        assert settings()[name] == 0.25
        back.click()
        assert settings() == own
        assert not back.is_visible()
    assert page.input_value('#settings input[aria-label="eta, as a number"]') == str(own["eta"])
    for name in ("target-sft", "idft"):
        page.select_option("#method", name)
        assert qt.method(name).use_when in page.inner_text("#method-gloss")
        assert qt.method(name).source in page.locator(f'#methods-body [data-method="{name}"]').get_attribute("title")
    assert seen.faults == []


def test_a_region_opens_its_own_tokens(browser, of_lab):
    made, path = of_lab
    seen, table = Seen(browser, path), made.table
    random = [row.row.why == "random" for row in made.found.rows]
    for region in range(len(map_regions())):
        expected = {at for at in (table.regions == region).nonzero()[0].tolist() if random[table.row[at]]}
        button = seen.page.locator(f'#regions button[data-region="{region}"]')
        button.click()
        opened = seen.page.eval_on_selector_all(
            "#region-tokens button", "nodes => nodes.map((node) => Number(node.dataset.token))"
        )
        assert set(opened) <= expected
        assert len(opened) == min(len(expected), 200)
        sample = sum(random[row] for row in table.row)
        assert f"{100 * len(expected) / sample:.1f}% of tokens" in button.inner_text()
        assert f"{100 * made.findings.methods[0].by_region[region]:.1f}% of the pull" in button.inner_text()
        button.click()
    assert seen.faults == []


def test_what_the_map_says_of_its_conflicts_is_of_the_rows_that_it_shows(browser, of_lab):
    made, path = of_lab
    seen, table = Seen(browser, path), made.table
    of_sample = [made.found.rows[row].row.why == "random" for row in table.row]
    likely = table.number("teacher 0 logp_y") >= math.log(0.9)
    for chosen in (of_sample, [True] * len(of_sample)):
        conflicts = table.conflicts & chosen
        learnt, of = (conflicts & likely).sum(), conflicts.sum()
        assert of > 0
        said = f"The teacher gives {learnt} of these {of} labels at least 0.9"
        said = said if learnt else f"The teacher gives each of these {of} labels less than 0.9."
        said = said if of > 1 else f"The teacher gives this one label {'at least' if learnt else 'less than'} 0.9"
        assert said in seen.page.inner_text("#of-conflicts")
        seen.page.check("#all-rows")
    assert "all rows of this page" in seen.page.inner_text("#of-points")
    assert seen.faults == []


def test_filters_keys_and_links_open_the_right_tokens(browser, of_lab):
    made, path = of_lab
    seen = Seen(browser, path)
    seen.page.select_option("#why", "conflict")
    numbers = {row.row.number for row in made.found.rows if row.row.why == "conflict"}
    visible = seen.page.eval_on_selector_all(
        "#row-list article:not([hidden])", "nodes => nodes.map((node) => Number(node.id.slice(4)))"
    )
    assert set(visible) == numbers
    seen.page.locator("#teacher-body .list button").first.click()
    surest = made.findings.surest[0]
    at = seen.page.evaluate("(({row, place}) => [row, place])(qtargetPage.tokens[qtargetPage.state.token])")
    assert at == [[row.row.number for row in made.found.rows].index(surest.row), surest.token - 1]
    assert surest.instead == made.trainer.text_tokenizer.decode([surest.instead_id])
    shown = len(made.findings.surest)
    assert f"{shown} of {made.findings.contradictions}" in seen.page.inner_text("#teacher-body") or shown < 40
    assert seen.page.locator("#teacher-body .list button").count() == shown
    follows = [each.follows for each in made.findings.surest]
    lines = seen.page.locator("#teacher-body .list button").all_inner_texts()
    assert ["after an earlier contradicted" in line for line in lines] == follows
    row = seen.page.locator("#row-list article:not([hidden]) .text").first
    row.focus()
    seen.page.keyboard.press("ArrowRight")
    first = seen.page.evaluate("qtargetPage.state.token")
    seen.page.keyboard.press("ArrowRight")
    assert seen.page.evaluate("qtargetPage.state.token") == first + 1
    assert seen.page.locator(".t.here").get_attribute("data-token") == str(first + 1)
    of = seen.page.evaluate(
        f"qtargetPage.tokens.filter((s) => s.row === qtargetPage.tokens[{first}].row).map((s) => s.at)"
    )
    order = seen.page.eval_on_selector_all(
        "#row-list article:not([hidden])", "nodes => nodes.map((node) => Number(node.dataset.row))"
    )
    row_now = lambda: seen.page.evaluate("qtargetPage.tokens[qtargetPage.state.token].row")  # noqa: E731
    for key, token in (("End", of[-1]), ("Home", of[0]), ("End", of[-1])):
        seen.page.keyboard.press(key)
        assert seen.page.evaluate("qtargetPage.state.token") == token
    for key, place in (("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1)):
        seen.page.keyboard.press(key)
        assert row_now() == order[place]
    seen.page.locator('#methods-body button[data-method="kd"]').click()
    assert seen.page.input_value("#method") == "kd"
    assert seen.faults == []


def test_a_chosen_token_stays_until_another_is_chosen_or_escape(browser, of_lab):
    seen = Seen(browser, of_lab[1])
    page = seen.page
    page.evaluate("document.getElementById('rows').scrollIntoView()")
    near = page.locator("#row-list .t.here").get_attribute("data-token")
    row = page.locator(f'#row-list .text:has([data-token="{near}"]) .t')
    first, other, third = (row.nth(n) for n in (0, 3, 5))
    third.hover()  # a first move has no way behind it
    token = lambda: str(page.evaluate("qtargetPage.state.token"))  # noqa: E731
    first.hover(position={"x": 3, "y": 8})
    assert token() == first.get_attribute("data-token")  # nothing is pinned when the page opens
    assert not page.locator("#pinned").is_visible()
    first.click()
    other.hover(position={"x": 3, "y": 8})
    on_the_way = page.locator("#token h2").bounding_box()
    page.mouse.move(on_the_way["x"] + 9, on_the_way["y"] + 9, steps=25)
    assert token() == first.get_attribute("data-token")
    assert "pinned; Esc lets go" in page.inner_text("#token")
    other.click()
    assert token() == other.get_attribute("data-token")
    page.locator("#teacher-body .list button").nth(2).click()
    chosen = token()
    third.hover(position={"x": 3, "y": 8})
    assert token() == chosen
    page.keyboard.press("Escape")
    assert not page.locator("#pinned").is_visible()
    first.hover(position={"x": 3, "y": 8})
    assert token() == first.get_attribute("data-token")
    first.click()
    page.locator("#pinned button").click()
    third.hover(position={"x": 3, "y": 8})
    assert token() == third.get_attribute("data-token")
    assert seen.faults == []


def test_the_first_screen_says_what_the_teacher_contradicts_and_leads_there(browser, of_lab):
    made, path = of_lab
    seen = Seen(browser, path)
    page = seen.page
    assert page.locator("h1 code").inner_text() == "student"
    against = page.evaluate("""() => qtargetPage.tokens.filter((s) => Math.exp(s.teacherLogps[0][s.label]) < 0.1
        && Math.exp(Math.max(...s.teacherLogps[0])) >= 0.5).map((s) => s.at)""")
    everything = page.evaluate("qtargetPage.tokens.length")
    glance = page.locator("#glance")
    assert f"The teacher contradicts {len(against)} of the {everything:,} learned tokens here" in glance.inner_text()
    shown_rows, all_rows = len(made.findings.rows), made.findings.audit.rows
    assert f"of the {shown_rows} rows of this page" in glance.inner_text()
    assert f"The other {all_rows - shown_rows} of {all_rows} rows were not read" in glance.inner_text()
    assert glance.bounding_box()["y"] + glance.bounding_box()["height"] < WIDE["height"] / 2
    meanings = page.inner_text("#meanings")
    for word in ("p_y", "trust γ", "target Q", "scale s", "label", "pull", "KL(Q‖p)", "contradicted"):
        assert word in meanings
    assert page.locator('#token dt[title="the model\'s probability of the label"]').inner_text() == "p_y"
    assert is_in_list(page)  # the row of the token that the page opens with
    rows = page.eval_on_selector_all("#row-list article", "nodes => nodes.map((node) => Number(node.dataset.row))")
    surest = page.evaluate(
        f"""(() => {{ const sums = qtargetPage.store.rows.map(() => 0); {against}.forEach((at) => {{
        const s = qtargetPage.tokens[at], logps = s.teacherLogps[0];
        sums[s.row] = Math.max(sums[s.row], Math.exp(Math.max(...logps)) - Math.exp(logps[s.label])); }});
        return sums; }})()"""
    )
    assert [surest[row] for row in rows] == sorted(surest, reverse=True)
    glance.locator("button").click()
    surest_first = made.findings.surest[0]
    opened = page.evaluate(
        """(({tokens, store, state}) => { const s = tokens[state.token];
        return [store.rows[s.row].number, s.place + 1, s.at]; })(qtargetPage)"""
    )
    assert opened[:2] == [surest_first.row, surest_first.token]
    assert opened[2] in against
    assert is_in_list(page)
    assert page.evaluate("document.activeElement.closest('article')?.id") == f"row-{surest_first.row}"
    assert page.evaluate("document.querySelector('#row-list article:not([hidden])').id") == f"row-{surest_first.row}"
    assert page.input_value("#colour") == "teacher"
    walked = [opened[2]]
    for _ in range(6):
        page.keyboard.press("n")
        walked.append(page.evaluate("qtargetPage.state.token"))
    page.locator("#next").click()
    page.locator("#previous").click()
    assert page.evaluate("qtargetPage.state.token") == walked[-1]
    assert is_in_list(page)
    page.keyboard.press("p")
    assert page.evaluate("qtargetPage.state.token") == walked[-2]
    listed = page.eval_on_selector_all(
        "#row-list article:not([hidden])", "nodes => nodes.map((node) => Number(node.dataset.row))"
    )
    in_order = sorted(against, key=lambda at: (listed.index(page.evaluate(f"qtargetPage.tokens[{at}].row")), at))
    assert walked == in_order[:7]
    shown = page.eval_on_selector_all(
        "#row-list article:not([hidden])", "nodes => nodes.map((node) => Number(node.dataset.row))"
    )
    assert set(shown) == set(page.evaluate(f"{against}.map((at) => qtargetPage.tokens[at].row)"))
    row = page.locator("#row-list article:not([hidden]) .text").first
    row.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        assert page.evaluate("qtargetPage.state.token") in against
    page.select_option("#order", "file")
    page.uncheck("#against-only")
    rows = page.eval_on_selector_all("#row-list article", "nodes => nodes.map((node) => Number(node.dataset.row))")
    assert rows == sorted(rows)
    assert page.locator("#row-list article:not([hidden])").count() == len(rows)
    assert seen.faults == []


def is_in_list(page: Any) -> bool:
    """Whether the chosen token stands inside the list's box, once the list has scrolled."""
    page.wait_for_timeout(200)
    return settled(page, OUT_OF_LIST) == []


def settled(page: Any, script: str) -> list:
    """What a script finds once it finds nothing, as the page is drawn and scrolls in its own time; or what it still
    finds after half a minute."""
    with suppress(playwright.TimeoutError):
        page.wait_for_function(f"({script})().length === 0")
    return page.evaluate(script)


def test_a_second_point_of_an_open_region_leaves_it_open(browser, of_lab):
    seen = Seen(browser, of_lab[1])
    points = seen.page.evaluate("""() => qtargetPage.tokens.filter((s) => ["random", "all"].includes(
        qtargetPage.store.rows[s.row].why) && s.p > 0.15 && s.p < 0.45 && s.entropy > 1.05 && s.entropy < 1.95
        ).map((s) => [s.at, s.p, s.entropy])""")
    assert len(points) >= 2
    for _, p, entropy in (points[0], points[-1], points[-1]):
        seen.page.evaluate("document.getElementById('map-chart').scrollIntoView({block: 'center'})")
        box = seen.page.locator("#map-chart .u-over").bounding_box()
        top = seen.page.evaluate("""Math.max(...qtargetPage.tokens.filter((s) => ["random", "all"].includes(
            qtargetPage.store.rows[s.row].why)).map((s) => s.entropy))""")
        seen.page.mouse.move(box["x"] + p * box["width"], box["y"] + (1 - entropy / top) * box["height"])
        seen.page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        seen.page.mouse.down()
        seen.page.mouse.up()
        found = seen.page.evaluate("qtargetPage.tokens[qtargetPage.state.token]")
        assert found["p"] == pytest.approx(p, abs=0.03)
        assert found["entropy"] == pytest.approx(entropy, abs=0.1)
        assert seen.page.locator('#regions button[aria-pressed="true"]').get_attribute("data-region") == "5"
        assert seen.page.locator("#region-tokens button").count() > 1
    seen.page.locator('#regions button[data-region="5"]').click()
    assert seen.page.locator('#regions button[aria-pressed="true"]').count() == 0
    assert seen.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "viewport"), [("wide", WIDE), ("narrow", NARROW)])
def test_it_fits_the_screen_and_prints(browser, of_lab, scheme: str, width: str, viewport: dict[str, int]):
    SHOTS.mkdir(parents=True, exist_ok=True)
    seen = Seen(browser, of_lab[1], color_scheme=scheme)
    seen.page.set_viewport_size(viewport)
    seen.page.wait_for_timeout(300)
    assert settled(seen.page, WIDER) == []
    assert seen.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    dark = seen.page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((x) => Number(x) < 60)"
    )
    assert dark == (scheme == "dark")
    seen.page.screenshot(path=SHOTS / f"inspect-{width}-{scheme}.png", full_page=True)
    seen.page.click("#theme")
    assert dark != seen.page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((x) => Number(x) < 60)"
    )
    seen.page.click("#theme")
    seen.page.emulate_media(media="print")
    seen.page.set_viewport_size({"width": 720, "height": 1000})  # A4 within its margins
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert settled(seen.page, TOO_WIDE) == []
    assert seen.page.locator("#token tr.label").first.is_visible()
    assert seen.page.locator("#every-method tr.chosen").is_visible()
    assert not seen.page.locator("#walk").is_visible()
    ground = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((x) => Number(x) {})"
    assert seen.page.evaluate(ground.format("> 200"))
    seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert seen.page.evaluate(ground.format("< 60")) == dark
    assert seen.page.pdf()[:5] == b"%PDF-"
    assert seen.faults == []


def test_hostile_rows_are_shown_as_text(browser, of_hostile_rows):
    seen = Seen(browser, of_hostile_rows)
    for at in range(seen.page.evaluate("qtargetPage.tokens.length")):
        seen.page.evaluate(f"qtargetPage.select({at}, true)")
    for summary in seen.page.locator("#audit-body summary").all():
        summary.click()
    for region in range(len(map_regions())):
        seen.page.locator(f'#regions button[data-region="{region}"]').click()
    assert seen.page.evaluate("window.pwned") is None
    assert seen.page.locator("script").count() == 1 + len(SCRIPT_FILES)
    assert seen.page.locator("img, svg, iframe, object, embed, main style").count() == 0
    said = seen.page.locator("main").inner_text()
    for text in HOSTILE[:6]:
        assert text in said
    assert "\\u202egnp.exe\\u2066" in said
    assert "a\\u200bb\\ufeffc\\u2060" in said
    assert not set("\u202e\u2066\u200b\ufeff\x07\x1b") & set(said)
    assert "(1,000,001 characters)" in said  # with the space before it
    assert of_hostile_rows.stat().st_size < 1_000_000
    SHOTS.mkdir(parents=True, exist_ok=True)
    seen.page.screenshot(path=SHOTS / "inspect-hostile.png", full_page=True)
    assert seen.faults == []
