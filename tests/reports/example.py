"""Make reports/example/ from the output of a finished matrix: `python -m tests.reports.example output/dpo_metrics`.

Copies the report, its Markdown twin, the DPO page, summary.json and the figures and tables that the twin links, and takes the
screenshot that the README shows (needs Chromium; make test installs it for root).
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from tests.reports.chromium import CHROMIUM, browser

TARGET = Path(__file__).resolve().parents[2] / "reports" / "example"
WIDTH, HEIGHT = 1200, 1050


def copy(source: Path, target: Path) -> None:
    """The three pages, summary.json, and every file that report.md links."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("report.html", "report.md", "explain.html", "summary.json"):
        shutil.copy2(source / name, target / name)
    for link in sorted(
        set(re.findall(r"\]\(((?:figures|tables)/[^)\s]+)\)", (target / "report.md").read_text("utf-8")))
    ):
        (target / link).parent.mkdir(exist_ok=True)
        shutil.copy2(source / link, target / link)


def screenshot(page: Path, picture: Path) -> None:
    """The first screen of the page as PNG."""
    import base64

    with tempfile.TemporaryDirectory() as profile, browser(Path(profile)) as tab:
        tab.size(WIDTH, HEIGHT)
        tab.media()
        tab.open(page.as_uri())
        picture.write_bytes(base64.b64decode(tab.call("Page.captureScreenshot", format="png")["data"]))


def main() -> int:
    """Exit code 2 where there is no report or no browser."""
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "report.html").is_file():
        print("error: name the output directory of a finished matrix, with report.html in it", file=sys.stderr)
        return 2
    if CHROMIUM is None:
        print("error: the screenshot needs chromium; python -m tests.reports.chromium installs it", file=sys.stderr)
        return 2
    copy(Path(sys.argv[1]), TARGET)
    screenshot(TARGET / "report.html", TARGET / "report.png")
    size = sum(p.stat().st_size for p in TARGET.rglob("*") if p.is_file())
    print(f"{TARGET}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
