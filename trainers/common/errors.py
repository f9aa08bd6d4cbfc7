"""Errors that the user can fix: one line, no traceback, exit code 2."""


class UserError(ValueError):
    """A user's mistake; the message says what is wrong, where (file, line, key, value) and how to fix it."""


class UnreadableError(OSError, UserError):
    """An output file exists but cannot be read now (a failing disk, a lost server, too many open files).

    The file is not corrupt, so it is neither quarantined nor regenerated.
    """

    def __str__(self) -> str:
        return f"{self.filename} cannot be read: {self.strerror}; fix that, then run the same command again"


def first_fault(*checks: tuple[object, str]) -> str | None:
    """What is said of the first check that finds a fault; None where none does."""
    return next((said for found, said in checks if found), None)


def refuse(error: type[Exception], *checks: tuple[object, str]) -> None:
    """Raise `error` with what is said of the first check that finds a fault."""
    if (said := first_fault(*checks)) is not None:
        raise error(said)
