"""What a run learns of its rows where the configuration does not say so, and keys that say two things about it."""

from collections.abc import Mapping
from typing import Any

from qtarget.data import Asker
from qtarget.train.checks import check_learn

TRL_KEYS = ("assistant_only_loss", "completion_only_loss")


def learn_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """`learn: assistant`, where neither `learn` nor a key of TRL's says what is learned.

    Raises:
        ValueError: `learn` and a key of TRL's contradict each other.
    """
    if "learn" in values:
        assistant_only, completion_only = (values.get(key) for key in TRL_KEYS)
        check_learn(values["learn"], assistant_only, completion_only, Asker.COMMAND_LINE)
        return {}
    return {} if any(values.get(key) is not None for key in TRL_KEYS) else {"learn": "assistant"}
