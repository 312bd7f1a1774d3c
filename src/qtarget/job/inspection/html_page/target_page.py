"""The page: one HTML file, which needs nothing else, asks for nothing, and shows rows as the text that they are.

Its content security policy lets the page's own scripts and style run, by their hashes, and nothing be fetched. Texts of
rows stand in JSON, in which no character can end the element, and become text nodes. Charts are drawn by uPlot
and numbers inflated by fflate, which stand in `vendored/` with their licences.
"""

import base64
import hashlib
import json
import re
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import qtarget as qt
from qtarget.console import visible
from qtarget.disk.files import json_text, replace_text
from qtarget.job.inspection.html_page.page_store import page_store, page_text
from qtarget.job.inspection.inspect_job import Inspection
from qtarget.job.inspection.token_table import CONFLICT, CONTRADICTION, ENTROPY_EDGES, P_EDGES, map_regions

LIVE_FILES = (
    "vendored/fflate.umd.js",
    *(
        f"live/{name}.js"
        for name in ("arithmetic", "hyperparameters", "slopes", "pools", "methods", "targets", "unpack")
    ),
)
"""What computes targets from the store, in the order in which it is loaded; it needs no page."""
PART_FILES = tuple(
    f"parts/{name}.js"
    for name in (
        "nodes", "words", "facts", "state", "look", "settings_bar", "rows", "walk", "excerpts", "map", "regions",
        "audit", "meanings", "glance", "token_bars", "every_method", "token_panel", "methods_table", "figures", "start",
    )
)  # fmt: skip
"""What draws the page. Each file uses those before it alone. What is chosen changes in `state` alone, which then calls
the parts that asked to be called."""
SCRIPT_FILES = ("vendored/uPlot.iife.min.js", *LIVE_FILES, *PART_FILES)
STYLE_FILES = ("vendored/uPlot.min.css", "target_page.css")
WHY = {"all": "", "first": "one of the first", "random": "drawn at random", "conflict": "conflicts with the model most"}


def write_target_page(page: Path, inspection: Inspection) -> str:
    """Write the page, in the place of an older one.

    Returns:
        What it holds, in words.
    """
    store = page_store(inspection)
    shown = len(store.data["rows"])
    replace_text(page, target_page(inspection, store.data))
    left_out = f"; {store.left_out} more did not fit into a page that opens at once" if store.left_out else ""
    return f"{shown} rows, {page.stat().st_size / 1e6:.1f} MB{left_out}"


def target_page(inspection: Inspection, store: dict[str, Any]) -> str:
    """The page's text."""
    style, scripts = "\n".join(map(_asset, STYLE_FILES)), [_asset(name) for name in SCRIPT_FILES]
    name = escape(visible(Path(inspection.findings.model).name)) or "the model"
    parts = {
        "policy": f"default-src 'none'; script-src {' '.join(map(_source, scripts))}; style-src {_source(style)}; "
        "base-uri 'none'; form-action 'none'",
        "title": f"What “{name}” would be trained toward",
        "heading": f"What <code>{name}</code> would be trained toward",
        "style": style,
        "version": qt.__version__,
        "store": _json_in_html({"store": store, **_page_facts(inspection, len(store["rows"]))}),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    return re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], _asset("target_page.html"))


def _page_facts(inspection: Inspection, shown: int) -> dict[str, Any]:
    """What the page's code reads beside the store."""
    findings = inspection.findings
    rows = f"{shown} of {findings.audit.rows:,} training rows, counted from 1; figures are of {findings.sample_words}"
    teacher = f", with the teacher “{visible(findings.teacher)}”" if findings.teacher else ""
    surest = [{**asdict(each), "instead": page_text(each.instead)} for each in findings.surest]
    return {
        "about": f"{visible(findings.model)}{teacher}; {findings.configured}, before any step; {rows}.",
        "sample": findings.sample_words,
        "findings": {**json.loads(json_text(asdict(findings))), "surest": surest},
        "regions": [list(region) for region in map_regions()],
        "p_edges": P_EDGES,
        "entropy_edges": ENTROPY_EDGES,
        "conflict": CONFLICT,
        "contradiction": CONTRADICTION,
        "why": WHY,
    }


def _json_in_html(value: Any) -> str:
    """JSON in ASCII, in which nothing can end the element that it stands in."""
    text = json_text(value, ensure_ascii=True)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _asset(name: str) -> str:
    return files("qtarget.job.inspection.html_page").joinpath(name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
