"""The command line. Importing this module imports nothing heavy, so `--help` answers at once."""

import argparse
import difflib
import importlib
import shlex
import sys
from typing import NoReturn

from harness.commands import VERBS
from harness.commands.options import short

_EPILOG = """examples:
  python -m harness run-matrix                          the demo matrix
  python -m harness run-matrix my.yaml --dry-run        its runs and cost
  python -m harness run-matrix my.yaml --output out/my  somewhere else
  python -m harness status --output out/my
  python -m harness doctor

exit codes: 0 done, 1 some runs failed, 2 bad input, 130 interrupted"""


class _Parser(argparse.ArgumentParser):
    """Errors are one line with the nearest verb or option, and exit code 2."""

    def error(self, message: str) -> NoReturn:
        if "invalid choice" in message and "argument VERB" in message:
            wrong = message.split("invalid choice: ")[1].split("'")[1]
            near = difflib.get_close_matches(wrong, VERBS, n=1)
            if near:
                message = f"unknown verb {wrong!r}; did you mean {near[0]!r}?"
        if message.endswith("are required: VERB"):
            message = "no verb given; python -m harness --help lists them"
        if "unrecognized arguments" in message:
            wrong = message.split(": ")[1].split()[0]
            options = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(wrong, options, n=1)
            message = f"unknown argument {wrong!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        raise SystemExit(_say_error(message))


def build_parsers(verb: str | None) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser, and that of `verb`, which alone has its arguments; twice the first where no verb is given."""
    form = argparse.RawDescriptionHelpFormatter
    parser = chosen = _Parser(
        prog="python -m harness",
        description="Does a dynamic beta make DPO better? Train, evaluate and compare.",
        epilog=_EPILOG,
        formatter_class=form,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, one in VERBS.items():
        sub = verbs.add_parser(name, help=one.help, description=one.help, epilog=one.epilog, formatter_class=form)
        if name == verb:
            chosen = sub
            for argument in one.arguments() if callable(one.arguments) else one.arguments:
                sub.add_argument(*argument.names, **argument.settings)
    return parser, chosen


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    parser, chosen = build_parsers(next((word for word in arguments if word in VERBS), None))
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        chosen.error(f"unrecognized arguments: {' '.join(unknown)}")
    from harness.state.failures import disk_errno, disk_line
    from harness.workers.quiet import quiet_terminal
    from harness.workers.stopping import Stopped
    from trainers.common.errors import UserError

    quiet_terminal()
    verb = VERBS[options.verb]
    try:
        if not verb.anywhere:
            from harness.checks.requirements import check_versions

            check_versions()
        if "config" in options:  # what its verb imports takes a moment, so a line comes first
            print(f"reading {short(options.config)}", file=sys.stderr, flush=True)
        module, _, function = verb.module.partition(":")
        return int(getattr(importlib.import_module(module), function or "run")(options))
    except UserError as error:
        return _say_error(str(error))
    except Stopped as stopped:
        how = "stopped safely"
        if stopped.at_once:
            how = "stopped at once; the interrupted run resumes from its last checkpoint"
        command = shlex.join(["python", "-m", "harness", *sys.argv[1:]])
        print(f"\n{how}. Resume with: {command}", file=sys.stderr)
        return stopped.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; resume with the same command", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:
        number = disk_errno(error)
        if number is None:
            raise
        return _say_error(disk_line(number, error.filename or getattr(options, "output", "")))


def _say_error(text: str) -> int:
    for line in text.splitlines():
        print(f"error: {line}", file=sys.stderr)
    return 2
