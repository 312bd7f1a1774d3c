"""Hyperparameters as people are told them: in model cards, on the terminal and on pages."""

from __future__ import annotations

from typing import Any


def setting_words(setting: Any) -> str:
    """A hyperparameter as people are told it: a schedule in words, everything else as YAML has it.

    >>> setting_words({"from": 1, "to": "p_y", "until": 0.5})
    '1 → p_y along progress until 0.5'
    """
    match setting:
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[setting]
        case float() | int():
            return f"{setting:.12g}"
        case list() | tuple():
            return f"[{', '.join(map(setting_words, setting))}]"
        case {"from": start, "to": end}:
            until = f" until {setting_words(setting['until'])}" if "until" in setting else ""
            shape = f" ({setting['shape']})" if setting.get("shape", "linear") != "linear" else ""
            way = f"{setting_words(start)} → {setting_words(end)}"
            return f"{way} along {setting.get('along', 'progress')}{until}{shape}"
    return str(setting)
