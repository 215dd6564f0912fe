"""Mistakes of the user and refusals of the system, which end a command with one sentence."""

import errno

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """A mistake by the user: one sentence with what is wrong, what was expected, and the next command."""


def first_line(error: BaseException) -> str:
    """The first line of a library's error message, or the name of its class where the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def system_sentence(error: OSError) -> str:
    """What the system refused and what to do, for errors that can come from any read or write."""
    place = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or first_line(error)
    if error.errno in FULL:
        return f"{place}{reason}; nothing half-written is left: make room, then run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{place}{reason}; make it writable, or readable, then run the same command again"
    return f"{place}{reason}; run the same command again once that is fixed"
