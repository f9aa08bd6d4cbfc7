"""What a matrix was to show and what it does show: claims frozen before training, their evidence, the verdicts in words.

`claims.py` needs no numpy, since every command reads claims.
"""
