"""Which characters of a rendered conversation are learned: the assistant's turns, or the last of them."""

import warnings
from collections.abc import Sequence
from typing import Literal, get_args

from qtarget.data.bad_rows.faults import RowFault
from qtarget.data.chat.chat_template import ChatTemplate, Stretch, shared_start
from qtarget.data.chat.conversation import ASSISTANT, Conversation
from qtarget.data.chat.message_search import MessageSearch, end_of_words

Learn = Literal["assistant", "last", "all"]
"""What is learned of a conversation: every turn of the assistant, its last turn, or every token."""
LEARN: tuple[str, ...] = get_args(Learn)


def learned_stretches(talk: Conversation, search: MessageSearch, learn: Learn) -> tuple[str, list[Stretch]]:
    """A conversation's rendering, and what of it is learned.

    A turn is learned from where the answer would be drawn through the tokenizer's end token; where the template writes
    none there, through the turn's last character that is not blank. Where the template has generation marks, they say
    where turns lie. Else the conversation is rendered up to each turn and through it, and both must be how the whole
    begins.

    A turn that says of itself that it is not trained is not learned.

    Raises:
        RowFault: no turn is the assistant's, a message is not in the text, or the template writes a turn otherwise
            once more messages follow.
    """
    template, turns = search.template, talk.turns[-1:] if learn == "last" else talk.turns
    _check_wishes(talk, learn, template)
    marked = learn == "assistant" and template.has_marks(talk)
    text, marks = template.marked_text(talk) if marked else (template.text(talk), [])
    search.check(talk, text, range(len(talk.messages)) if learn == "all" else turns)
    if not turns and learn != "all":
        raise _nobody_answers(talk)
    by_turn = _marks_of_turns(talk, marks)

    def stretch(at: int) -> Stretch:
        if at in by_turn:
            return _marked_turn(text, by_turn[at], at, template, talk)
        return _rendered_turn(text, at, template, talk)

    if learn == "all":
        return text, _between([stretch(at) for at in sorted(talk.unlearned)], len(text))
    return text, [stretch(at) for at in turns if at not in talk.unlearned]


def _between(stretches: Sequence[Stretch], length: int) -> list[Stretch]:
    """What of a text is left beside some stretches of it."""
    edges = [0, *(edge for stretch in stretches for edge in stretch), length]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


def _check_wishes(talk: Conversation, learn: Learn, template: ChatTemplate) -> None:
    """Refuse what messages say about themselves where `learn` says otherwise."""
    others = sorted(at for at in talk.unlearned if talk.messages[at].get("role") != ASSISTANT)
    if learn == "all" and others:
        raise RowFault(
            "message that is not to be learned",
            talk.place(others[0]),
            f"says that it is not learned, and every token is ({template.asker.line('learn', 'all')})",
            f"Write {template.asker.line('learn', 'assistant')}, which learns the assistant's turns alone.",
        )
    if learn != "all" and talk.asked:
        at = min(talk.asked)
        raise RowFault(
            f"message of {talk.messages[at].get('role')!r} that is to be learned",
            talk.place(at),
            "says that it is learned, and only the assistant's turns are",
            f"Write {template.asker.line('learn', 'all')}, or leave its key out.",
        )


def _nobody_answers(talk: Conversation) -> RowFault:
    return RowFault(
        "no turn of the assistant",
        "completion" if talk.first else "messages",
        f"has no turn of the assistant to learn from (roles: {talk.roles})",
        'Rename the role to "assistant".',
    )


def _marks_of_turns(talk: Conversation, marks: Sequence[Stretch]) -> dict[int, Stretch]:
    """Each of the assistant's turns, the prompt's included, with its marks; nothing where they do not pair."""
    every = Conversation(talk.messages).turns
    return dict(zip(every, marks, strict=True)) if len(marks) == len(every) else {}


def _marked_turn(text: str, mark: Stretch, at: int, template: ChatTemplate, talk: Conversation) -> Stretch:
    """What is learned within a turn's marks: without the end of the header, which is not drawn, if they hold it, and
    with the end of the turn if they do not."""
    start = _start_in_mark(text, mark[0], template.header(talk))
    start = _start_of_turn(text, at, template, talk) if start is None else start
    words = end_of_words(talk.messages[at], text, start)
    end = _ends_of_turn(text[: mark[1]], words, template)[0]
    return start, end if end > words else _end_by_rendering(text, at, words, template, talk) or end


def _start_in_mark(text: str, mark: int, header: str) -> int | None:
    """Where the answer would be drawn, for marks that begin at `mark`: behind the header, which may lie partly within
    them; None where it stands there in another way."""
    for shared in range(len(header) + 1):
        before = len(header) - shared
        if text.startswith(header[before:], mark) and text.endswith(header[:before], 0, mark):
            return mark + shared
    return None


def _rendered_turn(text: str, at: int, template: ChatTemplate, talk: Conversation) -> Stretch:
    """What is learned of the message at index `at`, by rendering the conversation up to it and through it."""
    start = _start_of_turn(text, at, template, talk)
    end = _end_by_rendering(text, at, end_of_words(talk.messages[at], text, start), template, talk)
    if end is None:
        raise template.rewritten(talk, at)
    return start, end


def _end_by_rendering(text: str, at: int, words: int, template: ChatTemplate, talk: Conversation) -> int | None:
    """Where a turn ends; None where its rendering alone is not how the whole begins."""
    through = text if at == len(talk.messages) - 1 else template.text(talk.until(at + 1))
    ends = _ends_of_turn(through, words, template)
    return next((end for end in ends if text.startswith(through[:end])), None)


def _start_of_turn(text: str, at: int, template: ChatTemplate, talk: Conversation) -> int:
    """Where the answer would be drawn."""
    if at == 0:
        header = template.header(talk)
        return text.find(header) + len(header) if header in text else 0
    asking = template.text(talk.until(at), asks=True)
    if text.startswith(asking):
        return len(asking)
    start = shared_start(asking, text)
    if start < shared_start(asking, template.text(talk.until(at))):
        raise template.rewritten(talk, at)
    warnings.warn(
        f"Where the answer is drawn the chat template writes {asking[start:]!r}, and before the turns that are learned "
        "it does not: they are learned without it.",
        stacklevel=2,
    )
    return start


def _ends_of_turn(through: str, words: int, template: ChatTemplate) -> list[int]:
    """Where a turn may end, the likeliest first: after the end token, at the last character that is not blank, after
    the first special token. (Some templates write an end of the whole text behind the last turn.)"""
    ends = [len(through.rstrip())]
    token = str(template.tokenizer.eos_token or "")
    found = through.find(token, words) if token else -1
    if found >= 0:
        ends.insert(0, found + len(token))
    if special := template.special_token.search(through, min(words, len(through))):
        ends.append(special.end())
    return ends
