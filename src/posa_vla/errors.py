"""The one exception a user is meant to read."""

from collections.abc import Iterable


class PosaError(Exception):
    """Something the user can fix: one sentence saying what was expected, what was found and what to do.

    The command line prints the sentence and exits with status 2; as a library it is an ordinary exception.
    """


def unknown_name(kind: str, name: str, valid: Iterable[str]) -> PosaError:
    """An error that lists every valid name, e.g. ``unknown split 'x': choose one of eval, val``."""
    return PosaError(f"unknown {kind} {name!r}: choose one of {', '.join(sorted(valid))}")
