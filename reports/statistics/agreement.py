"""Agreement of judges with people and with one another: kappa, and accuracy, precision, recall, F1 per class."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from .results import Estimate, undefined


@dataclass(frozen=True, slots=True)
class Classification:
    """Accuracy and the unweighted means over classes of precision, recall and F1.

    A class that was never predicted has precision 0, one that never occurs recall 0 (scikit-learn's zero_division=0).
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    n: int
    classes: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def confusion(truth: ArrayLike, predicted: ArrayLike) -> NDArray[np.int64]:
    """Counts of shape (classes, classes), rows true, columns predicted, classes in sorted order over both arrays."""
    a, b = np.asarray(truth), np.asarray(predicted)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"agreement: shapes {a.shape} and {b.shape}; give one label of each rater per item")
    labels = np.unique(np.concatenate([a, b]))
    cells = np.searchsorted(labels, a) * labels.size + np.searchsorted(labels, b)
    return np.bincount(cells, minlength=labels.size**2).reshape(labels.size, labels.size).astype(np.int64)


def classification(truth: ArrayLike, predicted: ArrayLike) -> Classification:
    """How well `predicted` labels, shape (n,), give the `truth`; macro averages over all classes in either."""
    table = confusion(truth, predicted).astype(float)
    hits, true, guessed = table.diagonal(), table.sum(axis=1), table.sum(axis=0)
    precision = np.divide(hits, guessed, out=np.zeros_like(hits), where=guessed > 0)
    recall = np.divide(hits, true, out=np.zeros_like(hits), where=true > 0)
    f1 = 2 * hits / (true + guessed)  # a class is in one array at least, so this is never 0/0
    n = table.sum()
    return Classification(
        float(hits.sum() / n), float(precision.mean()), float(recall.mean()), float(f1.mean()), int(n), hits.size
    )


def cohen_kappa(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Cohen's kappa of two raters' labels, shape (n,) each, with the interval of Fleiss, Cohen and Everitt (1969).

    Undefined when both raters give every item the same label: agreement by chance is then certain.
    """
    table = confusion(a, b)
    n = int(table.sum())
    p = table / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    observed, chance = float(p.trace()), float(rows @ columns)
    if chance == 1:
        return undefined("Cohen's kappa", n, "both raters give every item the same label")
    kappa = (observed - chance) / (1 - chance)
    marginals = rows[None, :] + columns[:, None]  # entry (i, j): share of j in a plus share of i in b
    agreeing = p.diagonal() @ (1 - marginals.diagonal() * (1 - kappa)) ** 2
    off = p * marginals**2
    differing = (1 - kappa) ** 2 * (off.sum() - off.trace())
    variance = (agreeing + differing - (kappa - chance * (1 - kappa)) ** 2) / ((1 - chance) ** 2 * n)
    error = float(np.sqrt(max(variance, 0.0)))
    if error == 0:
        return Estimate(kappa, None, None, "Cohen's kappa", n, note="no spread to measure: the interval is undefined")
    half = float(stats.norm.ppf(0.5 + confidence / 2)) * error
    low, high = max(kappa - half, -1.0), min(kappa + half, 1.0)
    return Estimate(kappa, low, high, "Cohen's kappa, asymptotic interval", n, stderr=error, confidence=confidence)


def majority(labels: ArrayLike) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The label most raters give, from labels of shape (items, raters), and whether more than half agree on it.

    Where no label has a majority the first of the most frequent is given, and the second array is False.
    """
    table = np.asarray(labels)
    if table.ndim != 2:
        raise ValueError(f"majority: shape {table.shape}; give labels of shape (items, raters)")
    kinds = np.unique(table)
    counts = (table[:, :, None] == kinds).sum(axis=1)
    return kinds[counts.argmax(axis=1)], counts.max(axis=1) * 2 > table.shape[1]
