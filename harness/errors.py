"""A mistake the user can mend: one line, no traceback, exit code 2."""

from __future__ import annotations


class UserError(ValueError):
    """Says what is wrong, where (file, line, key, value) and how to mend it."""
