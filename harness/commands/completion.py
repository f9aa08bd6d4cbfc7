"""completion: a script that completes verbs, options and files in bash, zsh or fish."""

import argparse
from collections.abc import Sequence

from harness.cli import build_parsers
from harness.commands import VERBS

_BASH = r"""# bash completion of dpo-beta-harness and python -m harness
_dpo_beta_harness_words() {{
    case "$1" in
{cases}
        *) echo "{verbs} --help" ;;
    esac
}}
_dpo_beta_harness() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" first=1
    case "${{COMP_WORDS[0]}}" in
        *python*)
            if [[ "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" != "-m harness" ]]; then
                COMPREPLY=($(compgen -f -- "$current"))
                return
            fi
            first=3 ;;
    esac
    if (( COMP_CWORD == first )); then
        COMPREPLY=($(compgen -W "{verbs} --help" -- "$current"))
    elif [[ "$current" == -* ]]; then
        COMPREPLY=($(compgen -W "$(_dpo_beta_harness_words "${{COMP_WORDS[first]}}")" -- "$current"))
    else
        COMPREPLY=($(compgen -f -- "$current"))
    fi
}}
complete -o filenames -F _dpo_beta_harness dpo-beta-harness python python3
"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"
_FISH_HEAD = """# fish completion of dpo-beta-harness and python -m harness
function __dpo_beta_harness_at
    set -l words (commandline -opc)
    if string match -qr 'python' -- $words[1]
        test "$words[2] $words[3]" = '-m harness'; or return 1
        set words $words[3..-1]
    end
    if test (count $words) -ge 2
        test "$words[2]" = $argv[1]
    else
        test $argv[1] = none
    end
end
"""


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    print(script(options.shell), end="")
    return 0


def script(shell: str) -> str:
    """The completion script; verbs and options come from the parsers themselves."""
    found = {verb: _options(verb) for verb in VERBS}
    if shell == "fish":
        return _FISH_HEAD + _fish(found)
    cases = "\n".join(
        f'        {verb}) echo "{" ".join(name for names, _ in options for name in names)}" ;;'
        for verb, options in found.items()
    )
    text = _BASH.format(cases=cases, verbs=" ".join(VERBS))
    return text if shell == "bash" else _ZSH + text


def _options(verb: str) -> list[tuple[Sequence[str], str]]:
    """(option strings, help) of a verb; defaults are written out."""
    actions = [action for action in build_parsers(verb)[1]._actions if action.option_strings]
    return [(action.option_strings, (action.help or "") % vars(action)) for action in actions]


def _fish(found: dict[str, list[tuple[Sequence[str], str]]]) -> str:
    lines = []
    for command in ("dpo-beta-harness", "python", "python3"):
        for verb, declared in VERBS.items():
            start = f"complete -c {command} -n '__dpo_beta_harness_at "
            lines.append(f"{start}none' -f -a {verb} -d {_quoted(declared.help)}")
            for names, about in found[verb]:
                flags = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in names)
                lines.append(f"{start}{verb}' {flags} -d {_quoted(about)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
