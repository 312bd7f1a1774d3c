"""How a command ends when it does not end well, beside the `ValueError` of a run that failed."""


class Refused(Exception):
    """What was asked for cannot be run, and nothing was. The message says why, and what to write."""


class Interrupted(Exception):
    """The user stopped a run. The message says where it can go on."""
