"""`python -m tests.faults --runs 200 --seed 0`: the campaign; exit code 1 if a restart did not end with the same results."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from itertools import chain
from pathlib import Path

from tests.faults.outcome import Outcome, as_json, describe, table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--runs", type=int, default=200, help="number of faults (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first fault (default: %(default)s)")
    parser.add_argument(
        "--artifacts",
        type=int,
        nargs="?",
        const=999,
        default=0,
        metavar="N",
        help="first damage every kind of artifact once, or N of them",
    )
    parser.add_argument("--json", type=Path, help="write every outcome there")
    options = parser.parse_args()
    # before torch is imported: a pool of threads would not survive the forks
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    from tests.faults.campaign import Campaign
    from tests.warm import import_everything

    import_everything()
    root = Path(tempfile.mkdtemp(prefix="faults-"))
    os.environ["DPO_HARNESS_CACHE"] = str(root / "cache")
    campaign = Campaign(root, options.seed)
    campaign.prepare()
    places = ", ".join(f"{start}: {dict(points)}" for start, points in campaign.points.items())
    print(f"points at which a process can be disturbed, by where the call starts from: {places}", flush=True)
    outcomes: list[Outcome] = []
    faults = range(options.first, options.first + options.runs)
    for outcome in chain(campaign.damage_each(options.artifacts), map(campaign.run, faults)):
        outcomes.append(outcome)
        print(describe(outcome), flush=True)
        if options.json:
            options.json.write_text(json.dumps(as_json(outcomes), indent=1), encoding="utf-8")
    print(table(outcomes))
    good = all(outcome.good for outcome in outcomes)
    if good:
        shutil.rmtree(root)
    else:
        print(f"logs of what failed: {root}/fault-*.log")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
