"""Words of a command that hold a secret: refused before anything reads them, as errors and records repeat words."""

from collections.abc import Sequence

from qtarget.outcomes import Refusal
from qtarget.servers.address_secrets import HUB_OR_NETRC, refuse_secret

VARIABLES_OF_FLAGS = {
    "--teacher": "QTARGET_TEACHER_TOKEN",
    "--reference": "QTARGET_TEACHER_TOKEN",
    "--url": "QTARGET_API_KEY",
    "--judge-url": "QTARGET_JUDGE_API_KEY",
}
"""Variables of the environment for the secrets of servers, by the flag that names the server."""


def refuse_secret_words(words: Sequence[str]) -> None:
    """Refuse a command that has an address with a secret among its words.

    Raises:
        Refusal: names the flag, or the word by its number, and where the secret belongs.
    """
    before = ""
    for number, word in enumerate(words, 1):
        flag = word.partition("=")[0] if word.startswith("--") else before
        is_name = "://" in flag
        where = f"`{flag}`" if flag.startswith("--") and not is_name else f"word {number} of the command"
        try:
            refuse_secret(word, where, VARIABLES_OF_FLAGS.get(flag.replace("_", "-"), HUB_OR_NETRC))
        except ValueError as error:
            raise Refusal(str(error)) from None
        before = word
