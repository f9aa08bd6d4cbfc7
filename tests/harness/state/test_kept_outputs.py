"""Outputs that commit 5451eb5 left: a finished one is read as it is, an interrupted one is brought to the same end.

`kept_5451eb5.tar.xz` holds a folder as a user had it: `matrix.yaml` with its data, a model of `python -m trainers.tiny`, and
two outputs of `run-matrix`. `finished` lacks figures, tables, pages and `work/`, which are large. `interrupted` was killed
(SIGKILL to all its processes) while its second run trained, after that run's checkpoint of step 4; its lock
file is left out, since on another host it would be believed for twenty seconds.
"""

import json
import os
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import Results, load_results
from harness.cli import main
from harness.commands.runs.view import Live, server
from harness.state import HOLDER
from reports.schema import read_summary
from trainers.common.files import file_hash

pytestmark = pytest.mark.slow
ARCHIVE = Path(__file__).with_name("kept_5451eb5.tar.xz")
#: What a report makes of a run: it may change with every version, what was trained and measured may not.
REPORTED = ("summary.json", "training_metrics.csv", "training_curves.png")
#: Digits depend on the processor: the archive was made on one, the test runs on another. A wrong resume is off by 0.1 and more.
CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The folder of the archive, at a place of which its records know nothing."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "study"


def kept(output: Path) -> dict[str, tuple[str, int]]:
    """Hash and modification time of every file that was trained, measured or judged."""
    found = {}
    for folder in ("runs", "reference", "comparisons", "shared/reference"):
        for path in (output / folder).rglob("[!.]*"):
            if path.is_file() and path.name not in REPORTED:
                found[path.relative_to(output).as_posix()] = (file_hash(path), path.stat().st_mtime_ns)
    return found


def scores(read: Results) -> pd.DataFrame:
    """Every metric of every policy but the exact KL, which the old code did not measure."""
    keys = ["run_id", "benchmark", "metric"]
    known = read.scores[read.scores["metric"] != "kl_exact"]
    return known.sort_values(keys).reset_index(drop=True)


def run(output: Path, cli: Callable[..., Any]) -> None:
    """Bring an output to its end with `run-matrix`; its workers do not pay for their imports."""
    done = cli("run-matrix", output.parent / "matrix.yaml", "--output", output)
    assert done.returncode == 0, done.stderr


def numbers(value: Any) -> list[float]:
    """Every number inside, in order; None, texts and names are passed over."""
    if isinstance(value, dict):
        return [n for key in sorted(value) for n in numbers(value[key])]
    if isinstance(value, list):
        return [n for item in value for n in numbers(item)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_the_archive_is_small_and_says_what_made_it(study: Path) -> None:
    assert ARCHIVE.stat().st_size <= 2**20
    for output, states in (("finished", ["done"] * 4), ("interrupted", ["pending", "pending", "running", "running"])):
        records = [json.loads(path.read_text()) for path in (study / output).glob("runs/*/run.json")]
        assert {record["source"]["commit"][:7] for record in records} == {"5451eb5"}
        found = [json.loads(path.read_text())["state"] for path in (study / output).glob("runs/*/status.json")]
        assert sorted(found) == states


def test_a_finished_output_is_reported_and_nothing_else(study: Path, tmp_path: Path, cli: Any, capfd: Any) -> None:
    output = study / "finished"
    before, summary = kept(output), json.loads((output / "summary.json").read_text())
    assert read_summary(output / "summary.json").schema_version == summary["schema_version"] == 1
    assert len(before) > 100
    run(output, cli)
    after = kept(output)
    assert {name: after.get(name) for name in before} == before
    assert not list((output / "work").glob("*.events.jsonl"))  # no worker was started
    shown = load_results(output)._repr_html_()  # in a notebook: answer, table and figure
    assert "<th>adjusted p</th>" in shown and "data:image/png;base64," in shown
    now = json.loads((output / "summary.json").read_text())
    assert now["counts"] == summary["counts"] and now["claims"]["sha256"] == summary["claims"]["sha256"]
    for old, new in zip(summary["metrics"], now["metrics"], strict=True):
        for key in ("reference", "methods"):
            assert numbers(new[key]) == pytest.approx(numbers(old[key]), rel=1e-9), (old["benchmark"], old["metric"])

    page = output / "report.html"
    written = page.stat().st_mtime_ns
    run(output, cli)
    assert page.stat().st_mtime_ns == written
    assert main(["report", "--output", str(output)]) == 0
    assert page.stat().st_mtime_ns > written
    runs = [str(path) for path in sorted(output.glob("runs/*"))]
    assert main(["compare", *runs, "--baseline", "fixed", "--output", str(tmp_path / "compared")]) == 0
    assert (tmp_path / "compared" / "report.html").is_file()
    capfd.readouterr()
    assert main(["status", "--output", str(output), "--json"]) == 0
    assert [one["state"] for one in json.loads(capfd.readouterr().out)["runs"]] == ["done"] * 4
    read = load_results(output)
    assert len(read.runs) == 5 and len(read.examples) == 4 * 12 * 2 and len(read.samples) > 0
    assert kept(output) == after


def test_an_interrupted_output_is_resumed_from_its_checkpoint(study: Path, cli: Any) -> None:
    """It ends like the finished output, which nothing disturbed; the steps before the checkpoint were the old code's."""
    output = study / "interrupted"
    states = {path.parent.name: json.loads(path.read_text()) for path in output.glob("runs/*/status.json")}
    (done,) = [name for name, state in states.items() if "train" in state["stages"]]
    (cut,) = [path.parents[1].name for path in output.glob("runs/*/checkpoints/checkpoint-4")]
    trained = {name: seen for name, seen in kept(output).items() if done in name and "status.json" not in name}
    assert cut != done and len(trained) > 5

    run(output, cli)
    after = kept(output)
    assert {name: after.get(name) for name in trained} == trained
    assert json.loads((output / "runs" / cut / "train_result.json").read_text())["resumed_from_step"] == 4
    assert not kept(study / "finished").keys() - after.keys()

    undisturbed, resumed = load_results(study / "finished"), load_results(output)
    assert (resumed.runs["state"] == "done").all()
    pd.testing.assert_frame_equal(scores(resumed), scores(undisturbed), **CLOSE)
    keys = ["run_id", "step", "example_id"]
    old, new = (read.examples.sort_values(keys).reset_index(drop=True) for read in (undisturbed, resumed))
    pd.testing.assert_frame_equal(new[old.columns], old, **CLOSE)
    keys = ["run_id", "benchmark", "prompt_id", "sample"]
    old, new = (
        read.samples.sort_values(keys).reset_index(drop=True)[[*keys, "text"]] for read in (undisturbed, resumed)
    )
    pd.testing.assert_frame_equal(new, old)


def test_view_shows_a_finished_output_and_one_that_is_worked_on(study: Path, tmp_path: Path) -> None:
    def get(path: str, host: str | None = None) -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{serving.server_address[1]}{path}")
        if host is not None:
            request.add_header("Host", host)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    output = study / "finished"
    live = Live(output, tmp_path / "scratch")
    with server(live, 0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        assert get("/report") == (404, "") and get("/../matrix.yaml") == (404, "")
        assert get("/", host="example.com:80") == (403, "")
        assert "/status.json" in get("/")[1]
        (output / HOLDER).write_text(json.dumps({"pid": os.getpid(), "host": "here", "since": "now"}))
        live.refresh()
        said, interim = json.loads(get("/status.json")[1]), get("/report")[1]
        assert [row["state"] for row in said["runs"]] == ["done"] * 4 and said["version"] == "4 runs"
        assert "interim" in said["note"] and "everything here is exploratory" in interim
        (output / HOLDER).unlink()
        (output / "report.html").write_text("the report of the matrix")
        live.refresh()
        assert get("/report") == (200, "the report of the matrix") and json.loads(get("/status.json")[1])["note"] == ""
        serving.shutdown()
