"""What a launcher says of how its process ended: accelerate's, and that of `torch.distributed.run` beneath it.

Both end with code 1 themselves, whatever their process ended with. One process accelerate starts by itself, and raises
Python's `CalledProcessError`, unless it is told to be `--quiet`. Several it starts through torch, which lists those
that failed with their codes: the one that it saw first as the root cause, and others too that it ended itself then, of
which nothing is read. Sources: accelerate 1.x, `commands.launch`; torch 2.x, `distributed.elastic.multiprocessing`.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

ROOT_CAUSE = re.compile(r"^Root Cause \(first observed failure\):$.*?^ +exitcode +: (-?\d+) ", re.MULTILINE | re.DOTALL)
CALL_FAILED = re.compile(r"^subprocess\.CalledProcessError: .* returned non-zero exit status (\d+)\.$", re.MULTILINE)
CALL_KILLED = re.compile(r"^subprocess\.CalledProcessError: .* died with <Signals\.\w+: (\d+)>\.$", re.MULTILINE)
AGENT_KILLED = re.compile(r"^torch\.[\w.]+\.SignalException: Process \d+ got signal: (\d+)$", re.MULTILINE)
AGENT_LINE = re.compile(r"[WE]\d{4} [\d:.]+ \d+ \S*torch/distributed/")
TRACEBACK = "Traceback (most recent call last):"


class LauncherWords(NamedTuple):
    """What a launcher printed when its process had ended.

    Attributes:
        code: of the process, minus the number of a signal.
        before: the lines until then, which are the process's own.
    """

    code: int
    before: tuple[str, ...]


def launcher_words(lines: Sequence[str]) -> LauncherWords | None:
    """How the process of a launcher ended, by what a command printed; None where no launcher says it."""
    text = "\n".join(lines)
    codes = [int(found[-1]) for found in (ROOT_CAUSE.findall(text), CALL_FAILED.findall(text)) if found]
    codes += [-int(found[-1]) for found in (CALL_KILLED.findall(text), AGENT_KILLED.findall(text)) if found]
    begins = [place for place, line in enumerate(lines) if line == TRACEBACK]
    if not codes or not begins:
        return None
    agent = [place for place, line in enumerate(lines) if AGENT_LINE.match(line)]
    return LauncherWords(codes[0], tuple(lines[: min([begins[-1], *agent])]))
