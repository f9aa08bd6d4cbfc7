"""Judges by name. Imports nothing heavy: constructing a judge loads no model and opens no connection.

A judge from outside the package is reached as `path/to/file.py:ClassName` or through the entry-point group
`dpo_beta_harness.judges`; its parameters are the keyword arguments of its `__init__`.
"""

from evals.judges.base import Judge, JudgeError
from trainers.common.plugins import Registry

JUDGES = Registry(
    "judge",
    {
        "verifiable": "evals.judges.verifiable:VerifiableJudge",
        "reward_model": "evals.judges.reward_model:RewardModelJudge",
        "llm": "evals.judges.llm:LLMJudge",
    },
    ("dpo_beta_harness.judges",),
    (Judge,),
    JudgeError,
)
available, source_file, parameters, build = JUDGES.available, JUDGES.source_file, JUDGES.parameters, JUDGES.build
