"""Results of units on disk: compressed JSON, one file a unit, all of one protocol."""

import gzip
import json
from pathlib import Path
from typing import Any

from qtarget.disk.files import (
    CONTENT_SHA256,
    digested,
    first_difference,
    json_digest,
    json_text,
    read_json_object,
    replace_file,
    write_digested_json,
)
from qtarget.disk.held_folders import check_not_replaced
from qtarget.study.real_models.real_protocol import RealProtocol
from qtarget.study.real_models.study_units import Unit

REAL_PROTOCOL = "protocol.json"


def path_of_unit(unit: Unit, results: Path) -> Path:
    """The file of a unit's result."""
    return results / unit.setting / f"{unit.name}.json.gz"


def save_unit(unit: Unit, results: Path, result: dict[str, Any]) -> None:
    """Write a unit's result: the file is there whole, or not at all."""
    path = path_of_unit(unit, results)
    check_not_replaced(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json_text(digested({"unit": unit.name, "setting": unit.setting, **result}), indent=None)
    replace_file(path, gzip.compress(text.encode(), mtime=0))


def read_unit(unit: Unit, results: Path) -> dict[str, Any] | None:
    """A unit's result; None where it is not run yet.

    Raises:
        ValueError: the file is damaged, or of another unit.
    """
    path = path_of_unit(unit, results)
    if not path.is_file():
        return None
    try:
        result = json.loads(gzip.decompress(path.read_bytes()))
        is_whole = result.pop(CONTENT_SHA256) == json_digest(result)
    except (OSError, EOFError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it to run its unit again.") from error
    if not is_whole or (result["setting"], result["unit"]) != (unit.setting, unit.name):
        raise ValueError(f"{path} holds another result than was written for it; remove it to run its unit again.")
    return result


def check_one_protocol(protocol: RealProtocol, results: Path, flag: str = "--results") -> None:
    """Refuse a folder whose results, or models, were made under another protocol.

    Args:
        flag: that names the folder.

    Raises:
        ValueError: names both protocols and the first key that differs; or results are there and their protocol is not.
    """
    path = results / REAL_PROTOCOL
    if not path.is_file():
        if found := next(results.glob("*/*.json.gz"), None):
            raise ValueError(f"{found} stands beside no {REAL_PROTOCOL}, which says what it is of; bring it back.")
        return
    before = read_json_object(path, f"bring it back, or write another {flag}")
    now = json.loads(json_text(protocol.model_dump(mode="json")))
    if before != now:
        raise ValueError(
            f"{results} is of the protocol {before.get('name')!r}, which differs from {protocol.name!r} in "
            f"`{first_difference(before, now)}`; write another {flag}, or --protocol with that one."
        )


def hold_real_protocol(protocol: RealProtocol, results: Path) -> None:
    """Write the protocol beside the results, once."""
    if not (results / REAL_PROTOCOL).is_file():
        results.mkdir(parents=True, exist_ok=True)
        write_digested_json(results / REAL_PROTOCOL, protocol.model_dump(mode="json"))
