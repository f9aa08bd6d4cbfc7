"""view: an output in the browser, refreshed while its matrix runs; on this machine's loopback address only."""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from harness.commands.runs.output import collect
from harness.executors.local import worker_environment
from harness.state.store import frozen_matrix
from trainers.common import UserError

HOST = "127.0.0.1"
REFRESH_SECONDS = 2.0
_PAGE = Path(__file__).parent / "view.html"
#: The page's own script and styles, and the report in a frame; nothing from elsewhere.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)


class Live:
    """What is shown of an output: its own report, or one of the finished runs while a process works on the matrix.

    Args:
        output: directory of a matrix. scratch: where the reports of an unfinished matrix are made.
    """

    def __init__(self, output: Path, scratch: Path) -> None:
        self.output, self._scratch = output, scratch
        self.status = collect(output)
        #: The report to show and its version, which changes with its content; None before there is one.
        self.report: Path | None = None
        self.version = ""
        self.note = ""
        self._made_of: tuple[str, ...] = ()

    def refresh(self) -> None:
        """Read the state again; make a new report where more runs are finished than the last one shows."""
        self.status = collect(self.output)
        finished = tuple(row["run_id"] for row in self.status["runs"] if row["state"] == "done")
        final = self.output / "report.html"
        if self.status["held_by"] is None and final.is_file():
            self.report, self.version, self.note = final, str(final.stat().st_mtime_ns), ""
        elif finished and finished != self._made_of:
            self._made_of = finished
            self._interim(finished)

    def _interim(self, finished: tuple[str, ...]) -> None:
        """`compare` the finished runs: it judges no claims, which are for the whole matrix, and needs no lock here."""
        target = self._scratch / str(len(finished))
        words = ["compare", *finished, "--from", str(self.output), "--output", str(target), "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "harness", *words],
            env=worker_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            self.note = (done.stderr.strip().splitlines() or ["no report of the finished runs could be made"])[-1]
        else:
            self.report, self.version = target / "report.html", f"{len(finished)} runs"
            self.note = (
                f"interim report of {len(finished)} finished runs: claims are judged when the matrix is complete"
            )

    def plain(self) -> str:
        """JSON for the page: what `status --json` prints, and the report's version."""
        return json.dumps({**self.status, "version": self.version, "note": self.note})


def server(live: Live, port: int) -> ThreadingHTTPServer:
    """A server of `live` on the loopback address; port 0 takes a free one.

    Raises:
        UserError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # the name must be this machine's: another site's page could have its own name resolve to it
            if (self.headers.get("Host") or "").rpartition(":")[0] not in (HOST, "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN)
                return
            content: dict[str, tuple[str, Callable[[], bytes]]] = {
                "/": ("text/html", _PAGE.read_bytes),
                "/status.json": ("application/json", lambda: live.plain().encode()),
            }
            if live.report is not None:
                content["/report"] = ("text/html", live.report.read_bytes)
            kind, read = content.get(self.path.partition("?")[0], ("", bytes))
            if not kind:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            body = read()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", _POLICY)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """No line a request."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror}; give another, or 0 for any free one") from None


def run(options: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    frozen_matrix(options.output)
    with tempfile.TemporaryDirectory(prefix="view-") as scratch:
        live = Live(options.output.resolve(), Path(scratch))
        with server(live, options.port) as serving:
            threading.Thread(target=serving.serve_forever, daemon=True).start()
            address = f"http://{HOST}:{serving.server_address[1]}"
            print(f"{options.output}: {address} (Ctrl-C ends)", flush=True)
            if options.open:
                webbrowser.open(address)
            try:
                while True:
                    live.refresh()
                    time.sleep(REFRESH_SECONDS)
            except KeyboardInterrupt:
                serving.shutdown()
    return 0
