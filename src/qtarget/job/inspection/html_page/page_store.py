"""What the page keeps of the measured rows: texts, candidates and statistics, as deflated columns of numbers."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerBase

import qtarget as qt
from qtarget.disk.files import json_text
from qtarget.job.inspection.inspect_job import Inspection
from qtarget.job.inspection.measured_rows import GUIDED, MeasuredRow, fixed_pool
from qtarget.job.inspection.open_methods import not_moved
from qtarget.job.inspection.pull import TokenPull
from qtarget.job.inspection.row_forward import PROGRESS_SHOWN
from qtarget.job.inspection.token_texts import candidate_texts, shown_token, token_texts
from qtarget.job.inspection.trained_rows import TrainedRow
from qtarget.job.method_pages import entry
from qtarget.target.hyperparameter_words import setting_words
from qtarget.target.hyperparameters import Count, OneOf, Within, hyperparameters

STORE_BYTES = 7_000_000
"""Of the page's numbers and texts; rows that do not fit are left out."""
CANDIDATE_BYTES = 20
"""Of a candidate's id and text, which the page has once."""
AUDIT_TOKENS, AUDIT_EXAMPLES = 600, 3
"""Rows that are shown for each finding of the audit, and tokens of each."""
KEPT_NUMBERS = (
    "entropy",
    "top_entropy",
    "top_mass",
    "log_not_y",
    "collision",
    "reference_mass_below",
    "reverse_slope",
    "todi_slope",
    "tvd_slope",
    "head_share",
    "token_weight",
)
"""Measured numbers that the page keeps, those that there are."""


AS_MEASURED = {("akl", "head")}
"""Hyperparameters that the page shows and does not move, since what it keeps was measured at their value."""
PROGRESS_SETTING = {
    "name": "progress",
    "value": PROGRESS_SHOWN,
    "says": setting_words(PROGRESS_SHOWN),
    "about": "share of the run that is done, for schedules; the models are those that training starts with",
    "low": 0.0,
    "high": 1.0,
    "open": False,
}
"""Moved like a hyperparameter, where a method follows the run's progress."""


class PageStore(NamedTuple):
    """What goes into the page, and how many measured rows did not fit."""

    data: dict[str, Any]
    left_out: int


def page_store(inspection: Inspection) -> PageStore:
    """The store of a page, within `STORE_BYTES`."""
    rows = inspection.found.rows
    fitting = _fitting(inspection)
    kept = [rows[place] for place in fitting]
    if len(kept) < len(rows):  # what is left of micro-batches would be no micro-batch
        kept = [replace(row, group=n // inspection.findings.batch_rows) for n, row in enumerate(kept)]
    ids = np.unique(np.concatenate([row.likeliest.ids for row in kept]))
    tokenizer = inspection.trainer.text_tokenizer
    texts = candidate_texts(ids.tolist(), tokenizer, inspection.found.vocabulary)
    methods = [_method(name, method) for name, method in inspection.found.open.methods.items()]
    columns = _columns(kept, ids, inspection)
    data = {
        "vocabulary": inspection.found.vocabulary,
        "sources": list(inspection.found.sources),
        "ids": ids.tolist(),
        "texts": [page_text(texts[each]) for each in ids.tolist()],
        "rows": [
            _row(row, inspection.table.texts[place], inspection.table.said[place])
            for row, place in zip(kept, fitting, strict=True)
        ],
        "columns": {name: _packed(values) for name, values in columns.items()},
        "methods": methods,
        **_of_run(methods),
        "pools": _fixed_pools(inspection.found.open.methods, columns),
        "audit_rows": _audit_rows(inspection, tokenizer),
    }
    return PageStore(data, len(rows) - len(kept))


def page_text(text: str) -> str:
    """A token as the page shows it: a line break is seen and breaks the line, other hidden characters are spelled
    out."""
    return "".join("↵\n" if sign == "\n" else "⇥" if sign == "\t" else shown_token(sign) for sign in _cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}… ({len(text):,} characters)"


def _fitting(inspection: Inspection) -> list[int]:
    """The places of as many rows as fit, in their order; one at least."""
    total = 0
    candidates: set[int] = set()
    fitting: list[int] = []
    for place in _by_worth(inspection):
        total += _bytes_of(inspection, place)
        candidates |= set(inspection.found.rows[place].likeliest.ids.tolist())
        if total + CANDIDATE_BYTES * len(candidates) > STORE_BYTES and fitting:
            break
        fitting.append(place)
    return sorted(fitting)


def _by_worth(inspection: Inspection) -> list[int]:
    """The places of all rows, in turn one of each reason, and one of which a teacher is surest against a label; where
    all rows were measured, one drawn at random."""
    rows = inspection.found.rows
    place_of = {row.row.number: place for place, row in enumerate(rows)}
    surest = dict.fromkeys(place_of[each.row] for each in inspection.findings.surest)
    drawn = np.random.default_rng(0).permutation(len(rows)).tolist()
    of: dict[str, list[int]] = {}
    for place in drawn if rows[0].row.why == "all" else range(len(rows)):
        of.setdefault(rows[place].row.why, []).append(place)
    turns = zip_longest(surest, *of.values())
    return list(dict.fromkeys(place for turn in turns for place in turn if place is not None))


def _bytes_of(inspection: Inspection, place: int) -> int:
    """A row's columns, deflated by themselves, and its texts."""
    row, table = inspection.found.rows[place], inspection.table
    columns = _columns([row], np.unique(row.likeliest.ids), inspection).values()
    texts = json_text(_row(row, table.texts[place], table.said[place]), ensure_ascii=True)
    return sum(len(_packed(values)["data"]) for values in columns) + len(texts)


def _columns(rows: Sequence[MeasuredRow], ids: np.ndarray, inspection: Inspection) -> dict[str, np.ndarray]:
    """By name; of candidates, of which a token has `counts`, or of tokens.

    Args:
        ids: all candidates of these rows, once each, in order.
    """
    sources, configured = inspection.found.sources, next(iter(inspection.found.open.methods))
    likeliest = [row.likeliest for row in rows]
    counts = np.concatenate([each.counts for each in likeliest])
    candidates = np.searchsorted(ids, np.concatenate([each.ids for each in likeliest]))
    labels = np.searchsorted(ids, np.concatenate([row.row.ids[row.row.learned] for row in rows]))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    is_label = candidates == np.repeat(labels, counts)
    columns = {
        "counts": counts.astype(np.uint16),
        "candidates": candidates.astype(np.uint16 if len(ids) < 2**16 else np.uint32),
        "label": (is_label.nonzero()[0] - starts).astype(np.uint16),
        "rank": np.concatenate([row.numbers["rank"] for row in rows]).astype(np.uint32),
    }
    for source in ("student", *sources):
        columns[source] = _floats([each.logprobs[source] for each in likeliest])
        columns[f"{source} tail"] = _floats([each.log_tail[source] for each in likeliest])
    for name in KEPT_NUMBERS:
        if name in rows[0].numbers:
            columns[name] = _floats([row.numbers[name] for row in rows])
    for source in sources:
        for number in ("entropy", "overlap"):
            columns[f"{source} {number}"] = _floats([row.numbers[f"{source} {number}"] for row in rows])
    for name in likeliest[0].targets:
        columns[f"{name} target"] = _floats([each.targets[name] for each in likeliest])
    for name in (each for each in likeliest[0].log_tail if each in not_moved()):
        columns[f"{name} mass"] = _floats([each.log_tail[name] for each in likeliest])
    for name in (each for each in rows[0].pulls if each in not_moved()):
        for part in TokenPull._fields:
            columns[f"{name} {part}"] = _floats([row.pulls[name][part] for row in rows])
    if "reference" not in sources and _differs(rows):  # a reference of which only the label's probability is known
        columns["reference_logp_y"] = _floats([row.numbers["reference_logp_y"] for row in rows])
    return columns | _run_columns(rows, configured)


def _run_columns(rows: Sequence[MeasuredRow], configured: str) -> dict[str, np.ndarray]:
    """What is exact at the run's own settings: what follows from its method's targets, and the guided pool's mass on
    the tokens that are not kept."""
    measured = ("target_kl", "gradient")
    columns = {f"run {part}": _floats([row.pulls[configured][part] for row in rows]) for part in measured}
    if GUIDED in rows[0].likeliest.log_tail:
        columns["guided mass"] = _floats([row.likeliest.log_tail[GUIDED] for row in rows])
    return columns


def _of_run(methods: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The settings that those hold at, by name."""
    settings = {each["name"]: {one["name"]: one["value"] for one in each["settings"]} for each in methods}
    first = methods[0]["name"]
    return {"run": {"name": first, "settings": settings[first]}, "guided": settings.get(GUIDED)}


def _fixed_pools(methods: Mapping[str, qt.Method], columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Coefficient and exponents of the targets that are built of a pool whose mass on other tokens is kept."""
    found = {}
    for name, method in methods.items():
        pool = fixed_pool(method)
        if pool is not None and f"{name} mass" in columns:
            exponents = {"student": pool.student, "reference": pool.reference, "teachers": list(pool.teachers)}
            found[name] = {"rest": method.residual[0].coefficient, "pool": exponents}
    return found


def _differs(rows: Sequence[MeasuredRow]) -> bool:
    return any((row.numbers["reference_logp_y"] != row.numbers["logp_y"]).any() for row in rows)


def _floats(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).astype(np.float32)


def _packed(values: np.ndarray) -> dict[str, Any]:
    """Deflated, the first bytes of all numbers first, then their second ones: those that say how large a number is are
    much alike."""
    kind = {"float32": "f", "uint32": "u", "uint16": "h"}[values.dtype.name]
    numbers = values.astype(values.dtype.newbyteorder("<"))
    planes = numbers.view(np.uint8).reshape(-1, numbers.itemsize).T.tobytes()
    deflate = zlib.compressobj(9, wbits=-15)  # without a header
    data = base64.b64encode(deflate.compress(planes) + deflate.flush()).decode()
    return {"kind": kind, "count": len(values), "data": data}


def _row(row: MeasuredRow, texts: Sequence[str], said: Sequence[tuple[int, int]]) -> dict[str, Any]:
    return {
        "number": row.row.number,
        "why": row.row.why,
        "group": row.group,
        "texts": [page_text(text) for text in texts],
        "learned": row.row.learned.tolist(),
        "said": [list(span) for span in said],
    }


def _method(name: str, method: qt.Method) -> dict[str, Any]:
    """A method with its hyperparameters as the page moves them; one number a teacher is moved as their sum."""
    values: Mapping[str, Any] = method.hyperparameters
    settings = []
    for each in hyperparameters(qt.METHODS[name]):
        value = values[each.name]
        stays = not (isinstance(each.domain, Within) and _changes(value)) and (name, each.name) not in AS_MEASURED
        value = sum(value) if isinstance(value, list | tuple) and stays else value
        bounds = _domain(each.domain) if stays else {}
        words = setting_words(value)
        settings.append({"name": each.name, "value": value, "says": words, "about": each.domain.about, **bounds})
    if "progress" in method.needs:
        settings.append(PROGRESS_SETTING)
    told = entry(name)
    whole = {"name": name, "settings": settings, "source": told.source, "use_when": told.use_when}
    return {
        **whole,
        "does": told.summary,
        "trust": told.trust,
        "residual": told.residual,
        "not_moved": not_moved().get(name),
    }


def _changes(value: Any) -> bool:
    """Whether a value is a schedule or a statistic, or holds one, which the page shows and does not move."""
    several = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(each, str | Mapping) for each in several)


def _domain(domain: Within | Count | OneOf) -> dict[str, Any]:
    if isinstance(domain, Within):
        return {"low": domain.low, "high": domain.high, "open": domain.open_low}
    return {"choices": list(domain.choices)} if isinstance(domain, OneOf) else {}


def _audit_rows(inspection: Inspection, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Rows that the audit names, as text with their mask, by number."""
    audit = inspection.findings.audit
    wanted = [number for line in audit.lines for number in line.numbers[:AUDIT_EXAMPLES]]
    numbers = dict.fromkeys([*wanted, *audit.least, *audit.most])
    return {str(number): _audit_row(inspection.prepared[number - 1], tokenizer) for number in numbers}


def _audit_row(row: TrainedRow, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Stretches that are learned, or not, in order."""
    learned = np.zeros(len(row.ids), bool)
    learned[row.learned] = True
    stretches: list[list[Any]] = []
    texts = token_texts(row.ids[:AUDIT_TOKENS].tolist(), tokenizer)
    for text, is_learned in zip(texts, learned[:AUDIT_TOKENS].tolist(), strict=True):
        if stretches and stretches[-1][0] == is_learned:
            stretches[-1][1] += page_text(text)
        else:
            stretches.append([is_learned, page_text(text)])
    return {"stretches": stretches, "tokens": len(row.ids), "learned": int(learned.sum())}
