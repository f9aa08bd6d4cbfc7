"""One statistic per small file: pure functions on arrays that say what they computed, how, and from how many."""

#: What other rooms may import.
__all__ = [
    "association",
    "best_settings",
    "crossed",
    "design",
    "family",
    "frontier",
    "intervals",
    "moderated",
    "multiplicity",
    "over_matrices",
    "paired",
    "preferences",
    "winrate",
]
