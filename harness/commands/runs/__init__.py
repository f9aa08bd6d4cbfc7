"""Verbs that run a matrix, look after its output, and see to what it needs."""

from pathlib import Path

from harness.commands.options import JSON, OUTPUT, RETRY, SET, Verb, argument, examples, names, number, whole, wholes

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"

RUN_VERBS = {
    "run-matrix": Verb(
        "harness.commands.runs.matrix",
        "train, evaluate and compare every run of a matrix",
        examples(
            "run-matrix                                the demo matrix",
            "run-matrix my.yaml --check                the file alone",
            "run-matrix my.yaml --dry-run              its runs and cost",
            "run-matrix my.yaml --output out/my --seeds 0,1",
            "run-matrix my.yaml --set training.learning_rate=1e-6",
        ),
        (
            argument("config", nargs="?", type=Path, default=DEMO, help="matrix file (default: the demo)"),
            OUTPUT,
            argument("--dry-run", action="store_true", help="say what would be done and what it would cost"),
            argument("--json", action="store_true", help="with --dry-run: one JSON object for scripts"),
            argument("--check", action="store_true", help="check the file alone: no model, no data, no network"),
            argument(
                "--only", type=names, default=(), metavar="METHOD[,..]", help="work on these methods or runs only"
            ),
            argument("--exclude", type=names, default=(), metavar="METHOD[,..]", help="leave these out"),
            argument("--seeds", type=wholes(0), default=(), metavar="N[,..]", help="work on these seeds only"),
            SET,
            argument("--max-failures", type=whole(1), metavar="N", help="end once N runs have failed"),
            RETRY,
            argument("--push", action="store_true", help="upload finished policies to push_to_hub of the matrix"),
            argument("--wait", action="store_true", help="if another process works on the output, wait for it"),
        ),
    ),
    "plan": Verb(
        "harness.commands.runs.matrix:print_plan",
        "print the analysis plan with its hash, to register before training",
        """The plan has claims, seeds, looks, methods, benchmarks with their prompts by
hash, the primary metric, the baseline, exclusions and what happens to failed
runs. run-matrix freezes it before the first step. With --output it is the
frozen one, and what differs.

examples:
  python -m harness plan my.yaml > plan.txt
  python -m harness plan my.yaml --output out/my""",
        (
            argument("config", type=Path, help="matrix file"),
            argument("--output", type=Path, metavar="DIR", help="an output directory of run-matrix"),
            SET,
            JSON,
        ),
    ),
    "worker": Verb(
        "harness.commands.runs.matrix:work",
        "be one of several workers that share the runs of a matrix (a Slurm array)",
        examples("worker my.yaml --output /shared/out", "worker my.yaml --output /shared/out --train-only"),
        (
            argument("config", type=Path, help="matrix file"),
            argument(*OUTPUT.names, **{**OUTPUT.settings, "help": "default: %(default)s; shared by all"}),
            SET,
            RETRY,
            argument("--train-only", action="store_true", help="end when all runs are trained; do not evaluate"),
        ),
    ),
    "status": Verb(
        "harness.commands.runs.output:show_status",
        "show how far each run is",
        examples("status --output out/my", "status --output out/my --watch 5", "status --output out/my --json"),
        (
            OUTPUT,
            JSON,
            argument(
                "--watch",
                nargs="?",
                type=number(0.1, 86400),
                const=2.0,
                metavar="SECONDS",
                help="refresh (default: every 2)",
            ),
        ),
        anywhere=True,
    ),
    "view": Verb(
        "harness.commands.runs.view",
        "show the report in a browser, refreshed while the matrix runs",
        """The server listens on 127.0.0.1 alone. While a process works on the matrix, the
page shows each run's progress and a report of the runs that are finished.

"""
        + examples("view --output out/my", "view --output out/my --port 0 --open"),
        (
            OUTPUT,
            argument("--port", type=whole(0, 65535), default=8127, help="default: %(default)s; 0 for any free one"),
            argument("--open", action="store_true", help="open it in the default browser"),
        ),
    ),
    "clean": Verb(
        "harness.commands.runs.output:clean",
        "list, and with --yes remove, what no current matrix needs",
        examples("clean --output out/my                     list only", "clean --output out/my --yes"),
        (OUTPUT, argument("--yes", action="store_true", help="remove what is listed"), JSON),
        anywhere=True,
    ),
}
SETUP_VERBS = {
    "doctor": Verb(
        "harness.commands.runs.doctor",
        "say what is installed, which engine would be used, and what is missing",
        examples("doctor", "doctor --json"),
        (JSON,),
        anywhere=True,
    ),
    "prepare-model": Verb(
        "harness.commands.runs.doctor:prepare",
        "convert an embedded model into a checkpoint, once",
        examples("prepare-model smollm2-135m-instruct"),
        (
            argument("name", nargs="?", default="smollm2-135m-instruct", help="default: %(default)s"),
            argument("--verify", action="store_true", help="compare checksums; convert again if damaged"),
        ),
    ),
}
