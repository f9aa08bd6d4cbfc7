"""What a matrix was to show and what it does show: claims frozen before training, their evidence, the verdicts in words.

Only what needs no numpy is exported here, since every command reads claims; the rest is imported from its file.
"""

from reports.verdict.claims import CLAIMS, Claim, ClaimError, freeze, parse_claims, thaw, verify

__all__ = ["CLAIMS", "Claim", "ClaimError", "freeze", "parse_claims", "thaw", "verify"]
