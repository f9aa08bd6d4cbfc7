"""The rule in trainers/README.md, as written there: trained from a file of one's own and through an entry point."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.trainers.helpers import make_job, make_pairs
from trainers.common import plugins
from trainers.rules import catalogue
from trainers.rules.catalogue import RuleError
from trainers.run.train import train

README = Path(__file__).resolve().parents[3] / "trainers" / "README.md"


@pytest.fixture(scope="module")
def documented() -> tuple[str, str]:
    """The first Python block under "Writing a beta rule", and the class in it."""
    section = README.read_text(encoding="utf-8").split("\n## Writing a beta rule\n", 1)[1].split("\n## ", 1)[0]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    classes = re.findall(r"^class (\w+)\(BetaRule\)", block[1], re.MULTILINE)
    assert len(classes) == 1
    return block[1], classes[0]


@pytest.fixture
def entry_points() -> Iterator[None]:
    """Entry points are looked up once in a process; here they change."""
    plugins.entry_points.cache_clear()
    yield
    plugins.entry_points.cache_clear()


def recorded(model: Path, out: Path, rule: str, **params: float) -> pd.DataFrame:
    """The rows of two steps, which carry the betas."""
    job = make_job(model, out, rule, run_id="outside", params={"pref_beta": 0.2, **params}, training={"max_steps": 2})
    result = train(job, make_pairs(8), lambda _: None)
    assert result["steps"] == 2
    rows = pd.read_parquet(out / "example_metrics.parquet")
    rows["mean"] = result["mean_reference_log_perplexity"]
    return rows


def assert_formula(rows: pd.DataFrame, power: float) -> None:
    expected = 0.2 * (rows["log_prompt_perplexity"] / rows["mean"]) ** power
    assert rows["dynamic_beta"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_example_is_short(documented: tuple[str, str]) -> None:
    assert len(documented[0].splitlines()) < 30


def test_a_rule_in_a_file_of_ones_own(tiny_model: Path, tmp_path: Path, documented: tuple[str, str]) -> None:
    code, cls = documented
    file = tmp_path / "elsewhere" / "my_rule.py"
    file.parent.mkdir()
    file.write_text(code, encoding="utf-8")
    rows = recorded(tiny_model, tmp_path / "run", f"{file}:{cls}", power=0.25)
    assert len(rows) == 8 and rows["dynamic_beta"].std() > 0
    assert_formula(rows, 0.25)
    with pytest.raises(RuleError, match=r"has no parameter 'strength'; it takes"):
        catalogue.build(f"{file}:{cls}", {"strength": 1}, 8)
    with pytest.raises(RuleError, match="has no class 'Missing'"):
        catalogue.build(f"{file}:Missing", {}, 8)


@pytest.mark.usefixtures("entry_points")
def test_a_rule_of_an_installed_package(
    tiny_model: Path, tmp_path: Path, documented: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, cls = documented
    site = tmp_path / "site"
    (site / "outside_beta_rules-1.0.dist-info").mkdir(parents=True)
    (site / "outside_beta_rules.py").write_text(code, encoding="utf-8")
    (site / "outside_beta_rules-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: outside-beta-rules\nVersion: 1.0\n", encoding="utf-8"
    )
    (site / "outside_beta_rules-1.0.dist-info" / "entry_points.txt").write_text(
        f"[{catalogue.ENTRY_POINT_GROUP}]\nfrom_outside = outside_beta_rules:{cls}\nfixed = outside_beta_rules:{cls}\n",
        encoding="utf-8",
    )
    with pytest.raises(RuleError, match="unknown rule 'from_outside'"):
        catalogue.info("from_outside")
    monkeypatch.syspath_prepend(str(site))
    plugins.entry_points.cache_clear()
    assert "from_outside" in catalogue.available()
    assert catalogue.info("fixed").target == "trainers.rules.betas:Fixed", "a built-in rule cannot be replaced"
    assert_formula(recorded(tiny_model, tmp_path / "run", "from_outside"), 0.5)
