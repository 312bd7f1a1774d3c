"""How long a page of `qtarget inspect` takes to open, to scroll, and to follow a moved hyperparameter, in a browser.

    make test-browser                                    # once: playwright, and a Chromium where there is none
    python benchmarks/inspect_page.py PAGE.html... [--record]

The pages are those of any run. Chromium has no window and no graphics card here: it draws on the processor, which is
the slow case. Each page is opened anew in every round, and:

- *opened*: from the start of the navigation to the second frame after the page's script has run;
- *scrolled*: milliseconds between two frames while the whole page, then the list of rows, is scrolled by a gesture of
  2,000 pixels a second: the median, the 99th percentile and the longest;
- *moved*: from a change of the method's first slider to the second frame after it, every target having been computed.
"""

import argparse
import os
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright
from timing import processor, spread

from qtarget.disk.files import write_digested_json

RESULT = Path(__file__).parent / "results" / "inspect_page.json"
OPENED_MS, FRAME_MS = 2000, 1000 / 30
"""What is aimed at: a page that is open after so long, and 99 of 100 frames no further apart than so long."""
SPEED, DISTANCE = 2000, 12_000
"""Of a scroll, in pixels a second and pixels."""
PERCENT = 99
WINDOW = {"width": 1400, "height": 900}
WHEN_PAINTED = """addEventListener("DOMContentLoaded", () => requestAnimationFrame(() => requestAnimationFrame(() => {
    globalThis.paintedAt = performance.now(); })));"""
START_FRAMES = """() => { globalThis.frames_ = []; globalThis.counting = true;
    const next = (now) => { frames_.push(now); if (counting) requestAnimationFrame(next); };
    requestAnimationFrame(next); }"""
STOP_FRAMES = "() => { counting = false; return frames_.slice(1).map((at, n) => at - frames_[n]); }"
MOVE = """() => new Promise((done) => { const slider = document.querySelector('input[type="range"]');
    const begun = performance.now();
    slider.value = Number(slider.value) > (Number(slider.min) + Number(slider.max)) / 2 ? slider.min : slider.max;
    slider.dispatchEvent(new Event("input", {bubbles: true}));
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - begun))); })"""
CONTENT = "() => [qtargetPage.store.rows.length, qtargetPage.tokens.length]"


def chromium() -> str:
    for name in ("chromium", "google-chrome", "chromium-browser"):
        if found := shutil.which(name):
            return found
    raise SystemExit("no Chromium is on the PATH; `make test-browser` installs one")


def frames(page: Page, selector: str) -> list[float]:
    """Milliseconds between frames while what is chosen scrolls down, and up again."""
    page.evaluate(f"document.querySelector({selector!r}).scrollIntoView()")
    box = page.locator(selector).bounding_box()
    assert box is not None
    x, y = box["x"] + min(box["width"], WINDOW["width"]) / 2, min(max(box["y"], 0) + 200, WINDOW["height"] - 50)
    session = page.context.new_cdp_session(page)
    page.evaluate(START_FRAMES)
    for way in (-1, 1):
        gesture = {"x": x, "y": y, "yDistance": way * DISTANCE, "speed": SPEED, "gestureSourceType": "mouse"}
        session.send("Input.synthesizeScrollGesture", gesture)
    return page.evaluate(STOP_FRAMES)


def gaps(found: Sequence[float]) -> dict[str, float]:
    """Of the milliseconds between frames."""
    return {
        "median": statistics.median(found),
        "p99": statistics.quantiles(found, n=100, method="inclusive")[PERCENT - 1],
        "longest": max(found),
        "frames": len(found),
    }


def look_at(browser: Any, path: Path, rounds: int) -> dict[str, Any]:
    """One page, opened so many times."""
    opened, scrolled, listed, moved, content = [], [], [], [], [0, 0]
    for _ in range(rounds):
        context = browser.new_context(viewport=WINDOW)
        page = context.new_page()
        page.add_init_script(WHEN_PAINTED)
        page.goto(path.resolve().as_uri())
        page.wait_for_function("globalThis.paintedAt !== undefined")
        opened.append(page.evaluate("paintedAt"))
        content = page.evaluate(CONTENT)
        moved += [page.evaluate(MOVE) for _ in range(3)]
        scrolled += frames(page, "body")
        listed += frames(page, "#row-list")
        context.close()
    return {
        "page": path.name,
        "bytes": path.stat().st_size,
        "rows": content[0],
        "tokens": content[1],
        "opened_ms": spread(opened),
        "scrolled_ms": gaps(scrolled),
        "list_scrolled_ms": gaps(listed),
        "moved_ms": spread(moved),
    }


def targets_of(found: dict[str, Any]) -> list[tuple[str, float, float]]:
    """What is aimed at: in words, what was found, and the limit."""
    frame = max(found["scrolled_ms"]["p99"], found["list_scrolled_ms"]["p99"])
    return [("opened", found["opened_ms"]["median"], OPENED_MS), ("99 of 100 frames, scrolled", frame, FRAME_MS)]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("pages", type=Path, nargs="+")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--record", action="store_true", help=f"write {RESULT.name}")
    given = asked.parse_args()
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        found = [look_at(browser, path, given.rounds) for path in given.pages]
        version = browser.version
        browser.close()
    for each in found:
        print(f"{each['page']}: {each['bytes'] / 1e6:.1f} MB, {each['rows']} rows, {each['tokens']:,} learned tokens")
        for what, value, limit in targets_of(each):
            print(f"  {what:28}{value:8.0f} ms   {'met' if value <= limit else 'missed'}: at most {limit:.0f} ms")
        print(f"  {'a slider moved':28}{each['moved_ms']['median']:8.0f} ms")
    if given.record:
        machine = {"machine": processor(), "cores": os.cpu_count(), "chromium": version, "load": os.getloadavg()[0]}
        write_digested_json(RESULT, {**machine, "rounds": given.rounds, "pages": found})


if __name__ == "__main__":
    main()
