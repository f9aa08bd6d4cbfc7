"""What a matrix was to show and what it does show: claims frozen before training, their evidence, the verdicts in words.

`claims.py` needs no numpy, since every command reads claims.
"""

#: What other rooms may import.
__all__ = ["checklist", "claims", "inference", "instrument", "judged", "over_matrices", "pilot", "plan", "sentences"]
