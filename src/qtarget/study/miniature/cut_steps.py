"""The share of its steps to which a study was cut, kept beside the results: one that is stopped goes on with it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qtarget.disk.files import read_json_object, reading_fields, write_digested_json
from qtarget.study.miniature.design import Study

CUT = "cut.json"


def kept_share(study: Study, hours: float, results: Path) -> float | None:
    """The share of the steps that a study was cut to when it began, if the very same was begun in this folder.

    Raises:
        ValueError: the file that says so is damaged.
    """
    path = results / CUT
    if not path.is_file():
        return None
    remedy = "delete it to run the study with the steps that fit now"
    kept = read_json_object(path, remedy)
    with reading_fields(path, remedy):
        return float(kept["share"]) if kept["of"] == _described(study, hours) else None


def keep_share(study: Study, hours: float, share: float, results: Path) -> None:
    """Write down the share to which a study is cut."""
    results.mkdir(parents=True, exist_ok=True)
    write_digested_json(results / CUT, {"of": _described(study, hours), "share": share})


def _described(study: Study, hours: float) -> dict[str, Any]:
    """What the study is, in JSON's types."""
    return json.loads(json.dumps({"hours": hours, **asdict(study)}))
