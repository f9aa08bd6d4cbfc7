"""Splits that keep a prompt on one side: by prompt group, never by row."""

from collections.abc import Sequence

from trainers.formats.load import content_id
from trainers.formats.pairs import PreferencePair, seeded_hash


def prompt_groups(pairs: Sequence[PreferencePair]) -> list[int]:
    """For each pair the number of its group; pairs with the same `group` or the same prompt are in one, also by way of others."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # a graph of pairs, each joined to the first pair of its group and to the first with its prompt
    first: dict[tuple[str, str], int] = {}
    joined = [
        first.setdefault(key, i)
        for i, pair in enumerate(pairs)
        for key in (("group", pair.group), ("prompt", _prompt_key(pair)))
    ]
    places = [i for i in range(len(pairs)) for _ in range(2)]
    graph = coo_array(([1] * len(joined), (places, joined)), shape=(len(pairs), len(pairs)))
    _, numbers = connected_components(graph, directed=False)
    return [int(number) for number in numbers]


def _prompt_key(pair: PreferencePair) -> str:
    return content_id([{**turn, "content": turn["content"].strip()} for turn in pair.prompt])


def split_by_prompt(
    pairs: Sequence[PreferencePair], share: float, seed: int = 0
) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """(rest, held out): about `share` of the prompt groups, with all their pairs, are held out.

    Groups are drawn by a hash of `seed` and their prompts, so the split does not depend on the order of the pairs.

    Raises:
        ValueError: a share outside 0..1, or so few groups that a side would be empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share!r}; it must be above 0 and below 1")
    groups = prompt_groups(pairs)
    keys: dict[int, str] = {}
    for number, pair in zip(groups, pairs, strict=True):
        rank = seeded_hash(seed, _prompt_key(pair))
        keys[number] = min(keys.get(number, rank), rank)
    count = round(share * len(keys))
    if not 0 < count < len(keys):
        raise ValueError(
            f"{len(keys)} prompt groups cannot be split at a share of {share}: a side would be empty; add prompts, or change it"
        )
    held = set(sorted(keys, key=lambda number: keys[number])[:count])
    numbered = list(zip(groups, pairs, strict=True))
    return [pair for number, pair in numbered if number not in held], [
        pair for number, pair in numbered if number in held
    ]
