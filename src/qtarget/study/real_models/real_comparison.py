"""The arms of a setting beside one another, by `qtarget compare`, from the evaluations that units keep."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from qtarget.disk.files import replace_text
from qtarget.evaluate.compare.arms import read_arm
from qtarget.evaluate.compare.tables import ComparisonTables, compare_arms
from qtarget.study.real_models.real_protocol import RealProtocol, RealSetting
from qtarget.study.real_models.study_units import Unit
from qtarget.study.real_models.unit_files import read_unit

CONTRASTED = "sft"
"""The arm that the others are compared with, where it was run."""


def outcomes_by_arm(protocol: RealProtocol, setting: RealSetting, results: Path) -> dict[str, list[dict[str, Any]]]:
    """The test results of each arm, one for each training seed; all arms have the same seeds.

    These are the seeds at which every arm that was begun is tested. While there is no such seed, arms that are not
    tested at the first seed are left out.
    """
    by_arm = {
        arm: {seed: read_unit(Unit(setting.name, "test", arm, seed), results) for seed in setting.seeds}
        for arm in protocol.arm_names
    }
    begun = {arm: found for arm, found in by_arm.items() if any(found.values())}
    seeds = [seed for seed in setting.seeds if all(found[seed] for found in begun.values())]
    if not seeds:
        begun = {arm: found for arm, found in begun.items() if found[setting.seeds[0]]}
        seeds = [seed for seed in setting.seeds if all(found[seed] for found in begun.values())]
    return {arm: [result for seed in seeds if (result := found[seed]) is not None] for arm, found in begun.items()}


def compared(tests: Mapping[str, Sequence[Mapping[str, Any]]], decoding: str) -> ComparisonTables | None:
    """The comparison of all arms at a decoding; None while there are fewer than two."""
    if len(tests) < 2:
        return None
    first = [CONTRASTED] if CONTRASTED in tests else []
    with TemporaryDirectory(prefix="qtarget-real-") as place:
        arms = []
        for name in [*first, *(name for name in tests if name not in first)]:
            folders = [Path(place) / f"{name}-{number}" for number in range(len(tests[name]))]
            for folder, result in zip(folders, tests[name], strict=True):
                unpack_evaluation(result["evaluations"][decoding], folder)
            arms.append(read_arm(name, folders))
        return compare_arms(arms)


def unpack_evaluation(evaluation: Mapping[str, Any], folder: Path) -> None:
    """Write a kept evaluation as the folder that `qtarget eval` wrote."""
    for name, text in evaluation["files"].items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)
