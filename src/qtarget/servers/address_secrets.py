"""Secrets in addresses: a user or password in front of the host, or a token in the query.

They are struck out of what is shown, and refused where what the user writes comes in: records of runs repeat it.
"""

import re

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_USER = re.compile(r"(?<=://)(?:[^\s/?#]+|[^\s/?#@:\[]*:(?!\d+[/?#])\S*)@")
"""Also a password with a slash in it, which no address may have; a port and an @ behind it are no password."""
_NAMES = "token|key|sig|signature|secret|passwd|password|pwd|auth|authorization|credentials?|jwt|sas"
_IN_QUERY = re.compile(rf"([?&;#](?:[\w.%-]*[_.%-])?(?:api|access)?(?:{_NAMES})=)[^\s&;#'\"`)\]}},]+", re.IGNORECASE)
HUB_OR_NETRC = "the environment (HF_TOKEN for the hub, ~/.netrc for other servers)"
"""Where a secret belongs that is of no server of qtarget's."""
_SHOWN = 120


def without_secrets(text: str) -> str:
    """The text with … in the place of each secret in its addresses.

    >>> without_secrets("no rows at https://me:word@host/x?part=1&token=abc")
    'no rows at https://…@host/x?part=1&token=…'
    """
    return _ADDRESS.sub(lambda found: _IN_QUERY.sub(r"\1…", _USER.sub("…@", found[0])), text)


def refuse_secret(text: str, where: str, variable: str = HUB_OR_NETRC) -> None:
    """Refuse a text with an address that holds a secret.

    Args:
        where: the text's place, at the beginning of the sentence: "config.yaml, line 3: `teacher`".
        variable: where the secret belongs.

    Raises:
        ValueError: the place, the address without its secret, and `variable`.
    """
    for found in _ADDRESS.finditer(text):
        shown = without_secrets(found[0])
        if shown != found[0]:
            what = "a secret in its query" if _USER.sub("…@", found[0]) == found[0] else "a user or a password"
            raise ValueError(
                f"{where} holds an address with {what} ({shown[:_SHOWN]}), which would be saved with the run; write it "
                f"without, and put the secret into {variable}."
            )
