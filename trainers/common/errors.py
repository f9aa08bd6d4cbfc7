"""Errors that the user can fix: one line, no traceback, exit code 2."""

from __future__ import annotations


class UserError(ValueError):
    """A user's mistake; the message says what is wrong, where (file, line, key, value) and how to fix it."""


class UnreadableError(OSError, UserError):
    """An output file exists but cannot be read now (a failing disk, a lost server, too many open files).

    The file is not corrupt, so it is neither quarantined nor regenerated.
    """

    def __str__(self) -> str:
        return f"{self.filename} cannot be read: {self.strerror}; fix that, then run the same command again"
