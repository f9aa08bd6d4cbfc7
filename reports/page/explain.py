"""One self-contained page on DPO itself: sliders, the loss under three rules for beta, and eight exercises.

The page computes everything in the browser; this module fills its template. DPO: Rafailov et al. 2023, arXiv 2305.18290.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from reports.page.text import page_parts, templates
from reports.writing import write_text

#: Joined in this order into the page's one script.
SCRIPTS = ("explain_rules.js", "explain_plot.js", "explain_panel.js", "explain_exercises.js")


@dataclass(frozen=True, slots=True)
class Control:
    """A slider with its number field.

    The field accepts `low` to `high`; the slider covers `slider_low` to `slider_high`, evenly in log(value) where `log`
    is set. `key` names the value in the page's address (`#beta=0.1&ppl=20`); `formula` is HTML.
    """

    key: str
    name: str
    formula: str
    default: float
    low: float
    high: float
    slider_low: float
    slider_high: float
    step: float
    hint: str
    log: bool = False

    def position(self, value: float) -> float:
        """Where the slider stands at this value; `step` is in the same unit."""
        return round(math.log(value), 4) if self.log else value


_LOG = "Logarithmic slider."
LOG_PROBS = tuple(
    Control(key, name, formula, default, -10000, 0, -80, 0, 0.5, "")
    for key, name, formula, default in (
        ("pw", "policy, chosen answer", "log π(y<sub>w</sub>|x)", -38),
        ("pl", "policy, rejected answer", "log π(y<sub>l</sub>|x)", -47),
        ("rw", "reference, chosen answer", "log ref(y<sub>w</sub>|x)", -40),
        ("rl", "reference, rejected answer", "log ref(y<sub>l</sub>|x)", -44),
    )
)
BETAS = (
    Control("beta", "pref_beta", "β", 0.1, 0.001, 10, 0.01, 1, 0.02, f"All three rules start from it. {_LOG}", True),
    Control(
        "ppl",
        "prompt perplexity",
        "PPL(x)",
        20,
        1,
        1e6,
        1,
        1000,
        0.02,
        f"How much the prompt surprises the policy. {_LOG}",
        True,
    ),
    Control("c", "FooDPO: pref_beta_scale", "c", 0.5, 0, 10, 0, 1, 0.01, "0 falls back to the fixed β."),
    Control(
        "ppl0",
        "learnable: typical perplexity",
        "",
        10,
        1.01,
        1e6,
        1.1,
        1000,
        0.02,
        f"Of the training prompts; sets w before training. {_LOG}",
        True,
    ),
    Control(
        "eps",
        "learnable: reach of the network",
        "ε",
        0.3,
        0,
        0.99,
        0,
        0.9,
        0.01,
        "The network may move β by this share at most.",
    ),
    Control("nn", "learnable: output of the network", "NN(h)", 0, -20, 20, -3, 3, 0.01, "0 before training."),
)


def explain_html() -> str:
    """The page, as text. Its address may carry a setting, for example `explain.html#beta=0.1&ppl=20`."""
    page = templates(escape=True).get_template("explain.html.j2")
    return page.render(log_probs=LOG_PROBS, betas=BETAS, **page_parts("explain.css", *SCRIPTS))


def write_explain(path: Path | str) -> Path:
    """Write the page to `path`, making its folder where needed; returns the path. Raises OSError where it cannot."""
    return write_text(Path(path), explain_html())
