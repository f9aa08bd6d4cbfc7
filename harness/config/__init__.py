"""The matrix file: its source with line numbers and its settings."""

from harness.config.evaluation import BenchmarkConfig, JudgeConfig, LmEvalConfig
from harness.config.matrix_file import (
    DataConfig,
    MatrixConfig,
    MethodConfig,
    ModelConfig,
    SensitivityConfig,
    explain,
    parse,
)
from harness.config.source import OverriddenSource, Path_, Source, load, override, refuse

__all__ = [
    "BenchmarkConfig",
    "DataConfig",
    "JudgeConfig",
    "LmEvalConfig",
    "MatrixConfig",
    "MethodConfig",
    "ModelConfig",
    "OverriddenSource",
    "Path_",
    "SensitivityConfig",
    "Source",
    "explain",
    "fields",
    "load",
    "override",
    "parse",
    "refuse",
]
