"""A mistake the user can mend: one line, no traceback, exit code 2."""

from __future__ import annotations


class UserError(ValueError):
    """Says what is wrong, where (file, line, key, value) and how to mend it."""


class UnreadableError(OSError, UserError):
    """A file of the output is there but cannot be read now (a failing disk, a lost server, too many open files).

    That is no damage: nothing may be set aside, or done again, because of it.
    """

    def __str__(self) -> str:
        return f"{self.filename} cannot be read: {self.strerror}; mend that, then run the same command again"
