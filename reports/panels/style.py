"""One look for every figure: colour-blind-safe hues, and line styles and markers that tell methods apart in grey."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import seaborn
from matplotlib.figure import Figure

from trainers.common.files import write_bytes

#: Okabe and Ito (2008), without the yellow that vanishes on white; the baseline gets near-black.
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195")
BASELINE_HUE = "#333333"
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (2, 2)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True, slots=True)
class Look:
    """How one method is drawn, in every figure."""

    color: str
    dash: Any
    marker: str


def looks(labels: Sequence[str], baseline: str | None = None) -> dict[str, Look]:
    """A look per label. Beyond seven methods hues repeat with another dash and marker."""
    others = {}
    for number, label in enumerate(label for label in labels if label != baseline):
        turn = number // len(HUES)
        others[label] = Look(HUES[number % 7], DASHES[(number + 1 + 2 * turn) % 7], MARKERS[(number + 1 + turn) % 7])
    return {label: others.get(label, Look(BASELINE_HUE, "-", "o")) for label in labels}


@contextmanager
def style() -> Iterator[None]:
    """Seaborn's whitegrid with sizes for a page, the Agg canvas, and text kept as text in SVG."""
    matplotlib.use("Agg")
    rc = {
        "figure.dpi": 110,
        "savefig.dpi": 150,
        "font.family": "DejaVu Sans",
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "grid.color": "#e3e6ea",
        "axes.edgecolor": "#9aa2ab",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "report",
        "pdf.fonttype": 42,  # letters as text, not as outlines
        "text.parse_math": False,  # a name may hold a dollar sign
    }
    with matplotlib.rc_context(), seaborn.axes_style("whitegrid"):
        matplotlib.rcParams.update(rc)
        yield


def save(figure: Figure, *paths: Path) -> None:
    """Write a figure to each path (.png, .svg or .pdf) and close it. No date is stored: equal data give equal bytes."""
    for path in paths:
        kind = path.suffix.lstrip(".")
        buffer = BytesIO()
        metadata = {{"svg": "Date", "pdf": "CreationDate"}.get(kind, "Software"): None}
        # Half the time of level 6, a tenth larger.
        quick: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if kind == "png" else {}
        figure.savefig(buffer, format=kind, metadata=metadata, **quick)
        # Laid out once: solving it again for the next format doubles the time.
        figure.set_layout_engine(None)
        write_bytes(path, buffer.getvalue())
    plt.close(figure)
