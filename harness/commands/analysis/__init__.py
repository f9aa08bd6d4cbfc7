"""Verbs that analyse what has been run."""

from pathlib import Path

from harness.commands.options import DEFAULT_OUTPUT, JSON, OUTPUT, Verb, argument, examples, number, pair, whole, wholes

#: Stated, not measured; the output says so. A metric of 0..1 with an ordinary spread over seeds; --range scales them.
STATED = {"seed": 0.02, "prompt": 0.15, "residual": 0.4}
_POSITIVE = number(0, above=True)

VERBS = {
    "report": Verb(
        "harness.commands.analysis.reports:report",
        "make the report again from what is on disk",
        examples("report --output out/my"),
        (OUTPUT,),
    ),
    "compare": Verb(
        "harness.commands.analysis.reports:compare",
        "make the report of any finished runs, also of several outputs",
        """A RUN is a run id (its beginning will do), a method (all its runs), a label such
as foodpo[pref_beta_scale=0.3], or a run directory, in any output directory.

examples:
  python -m harness compare fixed foodpo
  python -m harness compare fixed-3cf7 foodpo-f69d --output out/two
  python -m harness compare fixed foodpo --from out/a --from out/b
  python -m harness compare out/a/runs/fixed-3cf7 out/b/runs/foodpo-f69d --json""",
        (
            argument("runs", nargs="+", metavar="RUN", help="run id, label, method or run directory"),
            argument(
                "--from",
                dest="sources",
                type=Path,
                action="append",
                metavar="DIR",
                help=f"an output directory of run-matrix; may be given again; default: {DEFAULT_OUTPUT}",
            ),
            argument("--output", type=Path, default=Path("output/comparison"), help="default: %(default)s"),
            argument("--baseline", metavar="NAME", help="label or method to compare with; default: the matrix file's"),
            argument("--primary", metavar="BENCHMARK/METRIC", help="default: the matrix file's"),
            JSON,
        ),
    ),
    "compare-scores": Verb(
        "harness.commands.analysis.tables:compare_scores",
        "compare models on the same items, from CSV files or lm-eval",
        """reads
  *.csv, *.jsonl       an item and a score a row (--id, --score); with a column
                       model, several models; without score, a model a column
  samples_*.jsonl      of lm-eval from 0.4.0, or the folder they are in
  *.json               lm-eval's results of any version: means, not paired

The difference is the first minus the second (or minus --baseline), paired by
item, with a 95 % interval; the test is exact McNemar for scores of 0 and 1.

examples:
  python -m harness compare-scores new.csv old.csv --id question_id --score acc
  python -m harness compare-scores scores.csv --baseline old --cluster passage
  python -m harness compare-scores lm-eval/new lm-eval/old --json""",
        (
            argument("files", type=Path, nargs="+", metavar="FILE", help="CSV or JSONL, or results of lm-eval"),
            argument("--id", metavar="COLUMN", help="names the item, or COLUMN,COLUMN; default: id, prompt_id, ..."),
            argument(
                "--score", metavar="COLUMN", help="holds the score; default: score, or every other column a model"
            ),
            argument("--cluster", metavar="COLUMN", help="names what items belong together, such as a passage"),
            argument("--baseline", metavar="MODEL", help="compare with this model; default: the second"),
            JSON,
        ),
    ),
    "judgments": Verb(
        "harness.commands.analysis.tables:judgments",
        "sum up judgments of AlpacaEval, Arena-Hard, MT-Bench, LLMBar, ...",
        """reads
  AlpacaEval   annotations.json; or columns model, row, preference
  Arena-Hard   model_judgment/JUDGE/MODEL.jsonl of 0.1 and 2.0
  MT-Bench     JUDGE_pair.jsonl, and the released judgments of people
  LLMBar       evaluators/.../result.json
  PandaLM      testset-v1.json with files of verdicts
  a table      columns prompt_id, first, second, preference (CSV, JSONL)

and gives win rates with SE, wins and draws, Bradley-Terry strengths also at
equal style, pairs of models, position agreement, and agreement with people.

examples:
  python -m harness judgments annotations.json
  python -m harness judgments gpt-4_pair.jsonl --baseline gpt-3.5-turbo
  python -m harness judgments verdicts.csv --pair new,old --json""",
        (
            argument("files", type=Path, nargs="+", metavar="FILE", help="files of one format"),
            argument("--baseline", metavar="MODEL", help="use comparisons with this model only; default: found"),
            argument("--pair", type=pair, metavar="A,B", help="print this pair; all, where there are few models"),
            JSON,
        ),
    ),
    "analyze": Verb(
        "harness.commands.analysis.reports:analyze",
        "make the report from runs of other tools: Trainer, lm-eval, CSV",
        """reads
  trainer_state.json   Trainer, TRL; also in checkpoint-N, the newest counts
  trainer_log.jsonl    LLaMA-Factory; with all_results.json, training_args.yaml
  *.csv                with a step and a loss column; exported charts of W&B
  results_*.json and samples_*.jsonl of lm-eval (--log_samples)
  log_history.json(l), logs.jsonl: saved log records
  run directories of this project

A folder named ...-seed3 is seed 3 of the method before it. Runs whose seeds do
not pair are compared one by one, as checkpoints.

examples:
  python -m harness analyze saves/dpo saves/foodpo
  python -m harness analyze dpo-seed0 dpo-seed1 new-seed0 --baseline dpo""",
        (
            argument("directories", type=Path, nargs="+", metavar="DIR", help="a run, a folder of runs, or a CSV file"),
            argument("--output", type=Path, default=Path("output/analysis"), help="default: %(default)s"),
            argument(
                "--baseline", metavar="NAME", help="compare with this run or method; default: fixed, or the first"
            ),
        ),
    ),
    "explain": Verb(
        "harness.commands.analysis.explain",
        "write an interactive page on DPO, its loss and its beta",
        examples("explain --output dpo.html"),
        (
            argument(
                "--output",
                type=Path,
                default=Path("output/explain.html"),
                metavar="FILE",
                help="default: %(default)s",
            ),
        ),
    ),
    "power": Verb(
        "harness.commands.analysis.power",
        "say how many seeds and prompts an effect needs, before training",
        """standard deviations are those of the paired difference of two methods:
  --sd-seed      between seeds, prompts averaged out
  --sd-prompt    between prompts, seeds averaged out
  --sd-residual  of one prompt under one seed, beyond both
A pilot with at least 2 seeds measures them: --pilot OUTPUT_DIR.

examples:
  python -m harness power --effect 0.05 --seeds 3,5,10 --prompts 100,500
  python -m harness power --effect 0.05 --looks 6,10
  python -m harness power --effect 0.05 --pilot output/dpo_metrics""",
        (
            argument("--effect", type=_POSITIVE, required=True, help="true difference to find, in the metric's unit"),
            argument("--seeds", type=wholes(2, 1000), default=[3, 5, 10], help="default: 3,5,10"),
            argument("--prompts", type=wholes(2, 1_000_000), default=[100, 500, 1000], help="default: 100,500,1000"),
            argument("--pilot", type=Path, metavar="DIR", help="a finished matrix to measure the deviations on"),
            argument("--metric", help="benchmark/metric of the pilot; default: its primary"),
            argument("--against", metavar="METHOD", help="the pilot's baseline; default: its own"),
            *(
                argument(f"--sd-{name}", type=number(0), metavar="SD", help=f"default: {value:g}")
                for name, value in STATED.items()
            ),
            argument(
                "--range",
                type=_POSITIVE,
                metavar="WIDTH",
                help="of the metric, for assumed deviations; default: 1, a share; 2 for a score of -1..1",
            ),
            argument(
                "--claims",
                type=whole(1, 100),
                default=1,
                metavar="N",
                help="claims declared, corrected together as the report does; default: 1",
            ),
            argument("--looks", type=wholes(2, 1000), default=[], metavar="SEEDS", help="planned looks, such as 6,10"),
            JSON,
        ),
    ),
}

__all__ = ["power"]
