"""plan: the analysis plan of a matrix with its hash, to register before training; and what has changed since it was frozen."""

import argparse
from pathlib import Path

from harness.commands.options import print_json
from harness.progress import stderr_line
from trainers.common import UserError


def run(options: argparse.Namespace) -> int:
    """Print the frozen plan of an output with the differences to it, or the plan as it would be frozen; nothing is written."""
    from harness.checks.static import check_static
    from harness.config import load, override
    from harness.plan.analysis import analysis_plan, frozen_plan, registered
    from harness.prepare import resolve
    from reports.verdict.claims import ClaimError, read_claims, thaw
    from reports.verdict.plan import differences

    source = override(load(options.config), options.set)
    config, drafts = check_static(source)
    plan = resolve(config, source, drafts, (options.output or Path("output")).resolve(), stderr_line)
    try:
        kept = None if options.output is None else read_claims(options.output)
        if kept is not None:
            thaw(kept)
    except ClaimError as error:
        raise UserError(f"--output {options.output}: {error}") from None
    known = kept is not None and bool(kept.get("plan"))
    frozen = kept if kept is not None and known else frozen_plan(plan)
    changes = [str(one) for one in differences(frozen["plan"], analysis_plan(plan))]
    if options.json:
        print_json({**frozen, "frozen": frozen["frozen"] if known else None, "changes": changes})
        return 0
    print(registered(config.name, frozen))
    print(f"\nfrozen {frozen['frozen']}" if known else "\nnot frozen yet: run-matrix does that, before the first step")
    for change in changes:
        print(f"changed since; what rests on it is exploratory: {change}")
    return 0
