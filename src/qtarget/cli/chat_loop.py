"""The terminal's side of `qtarget chat`: lines in, answers out as they come, and words that begin with a slash."""

import sys
from collections.abc import Callable

from qtarget.cli.terminal import EXIT_FAILED
from qtarget.console import SafeConsole, visible
from qtarget.evaluate.dialogue import Dialogue, Partner

PROMPT = "> "
COMMANDS_OF_CHAT = {"/reset": "forget the conversation", "/exit": "end (Ctrl-D too)", "/help": "these lines"}
FINISHES = {"length": "cut off: --max-new-tokens allows more", "interrupted": "stopped"}


def converse(dialogue: Dialogue, partner: Partner) -> int:
    """Read lines and answer them, until the user ends it.

    Returns:
        The exit code: 1 where standard input is no terminal and a line in it could not be answered.
    """
    console, failed = SafeConsole(stderr=True, soft_wrap=True), False
    while (line := _next_line()) is not None:
        word = line.strip()
        if word == "/exit":
            break
        if word == "/reset":
            dialogue.reset()
            console.print("the conversation begins anew", style="dim")
        elif word.startswith("/") and " " not in word:
            _help(word, console.print)
        elif word:
            failed = not _answered(line, dialogue, partner, console) or failed
    return EXIT_FAILED if failed and not sys.stdin.isatty() else 0


def _answered(line: str, dialogue: Dialogue, partner: Partner, console: SafeConsole) -> bool:
    """Whether a line could be answered; the answer is printed as it comes."""
    before = dialogue.text
    try:
        answer = partner.answer(dialogue.ask(line), _print)
    except ValueError as error:
        dialogue.take_back()
        dialogue.text = before
        console.print(str(error), style="red")
        return False
    dialogue.take(answer)
    _print("\n")
    if answer.finish in FINISHES:
        console.print(f"({FINISHES[answer.finish]})", style="dim")
    return True


def _print(text: str) -> None:
    """Write a piece of an answer; what would command the terminal is spelled out."""
    sys.stdout.write(visible(text))
    sys.stdout.flush()


def _next_line() -> str | None:
    """The user's next line; None at the end of the input, or on Ctrl-C where nothing is being answered."""
    try:
        if sys.stdin.isatty():
            return input(PROMPT)
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None
    except EOFError:
        _print("\n")
        return None
    except KeyboardInterrupt as stopped:
        if type(stopped) is not KeyboardInterrupt:
            raise
        _print("\n")
        return None


def _help(word: str, say: Callable[..., None]) -> None:
    if word not in COMMANDS_OF_CHAT:
        say(f"no command {word}; a line with a space in it is never taken for one", style="red")
    for name, meaning in COMMANDS_OF_CHAT.items():
        say(f"{name:8}{meaning}", style="dim")
