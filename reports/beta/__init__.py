"""What dynamic_beta goes with: per run, over the matrix, and what a learned rule made of it. Pure functions first."""

from reports.beta.learned import collapse_of
from reports.beta.matrix import beta_summary
from reports.beta.run import Analysed, analyse_run

__all__ = ["Analysed", "analyse_run", "beta_summary", "collapse_of"]
