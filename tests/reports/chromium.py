"""Drive a real headless Chromium over its DevTools pipe: real clicks and keys, console messages, sizes, dark mode, PDF.

Needs nothing but the browser: messages are JSON, ended by a zero byte, on the child's file descriptors 3 and 4.
https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_S = 120.0
_KEYS = {"Tab": 9, "Enter": 13, " ": 32, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}
#: Texts whose contrast with what is behind them is below 4.5 (WCAG 2, level AA), with the ratio.
_LOW_CONTRAST = """(() => {
  const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length === 3 ? [...m, 1] : m; };
  const linear = v => (v /= 255, v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll('main, main *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.checkVisibility()) continue;
    const style = getComputedStyle(e), back = light(behind(e));
    const front = light(parse(e.closest('svg') ? style.fill : style.color));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) low.push([e.outerHTML.slice(0, 80), ratio]);
  }
  return low; })()"""
_UNNAMED = """[...document.querySelectorAll('input, select, textarea, button, output, [role=region], [role=img]')]
  .filter(e => !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim())).map(e => e.outerHTML)"""
_MISSED = """[...document.querySelectorAll('a[href], input:not([type=radio]), select, button, summary, [tabindex="0"]')]
  .filter(e => e.checkVisibility() && !e.disabled && !seen.has(e)).map(e => e.outerHTML.slice(0, 80))"""
_CUT = """[...document.querySelectorAll('main *')].filter(e => e.checkVisibility() && !e.closest('.scroll, svg, input')
  && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""


class Page:
    """One tab. `problems` collects console errors and warnings, exceptions and violations of the page's policy."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._loaded = False
        self.problems: list[str] = []
        self.requests: list[str] = []
        pages: list[str] = []
        while not pages:  # the first tab opens a little after the browser answers
            pages = [t["targetId"] for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        target = pages[0]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # a headless window has no focus of its own

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer, noting the events that come before it."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], PATIENCE_S)[0]:
                raise TimeoutError("Chromium does not answer")
            chunk = os.read(self._read, 1 << 16)
            if not chunk:
                raise EOFError("Chromium ended")
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.problems.append(str(params["args"]))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Page.loadEventFired":
                self._loaded = True
        return message

    def open(self, address: str) -> None:
        """Load a page anew, also when only the part after # differs."""
        for url in ("about:blank", address):
            self.problems, self.requests, self._loaded = [], [], False
            self.call("Page.navigate", url=url)
            while not self._loaded:
                self._receive()

    def js(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Until the expression is true."""
        end = time.monotonic() + PATIENCE_S
        while not self.js(f"Boolean({expression})"):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """What an element says."""
        return str(self.js(f"document.querySelector({json.dumps(selector)}).textContent"))

    def press(self, key: str, shift: bool = False) -> None:
        """A key, as the keyboard sends it."""
        common = {"key": key, "code": key, "windowsVirtualKeyCode": _KEYS[key], "modifiers": 8 if shift else 0}
        text = {"Enter": "\r", " ": " "}.get(key)
        self.call("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, selector: str, text: str) -> None:
        """Put the focus in a field and write over what it holds."""
        self.js(f"(() => {{ const f = document.querySelector({json.dumps(selector)}); f.focus(); f.select(); }})()")
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """A mouse click in the middle of an element, scrolled into view."""
        box = self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def size(self, width: int, height: int = 900) -> None:
        """The size of the window, in CSS pixels, without scroll bars (as on a phone, and for whole screenshots)."""
        self.call("Emulation.setScrollbarsHidden", hidden=True)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, dark: bool = False, printing: bool = False) -> None:
        """Dark or light, screen or print."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media="print" if printing else "screen", features=features)

    def low_contrast(self) -> list[list[Any]]:
        """Visible texts that are hard to read: (element, contrast) where it is below 4.5."""
        return list(self.js(_LOW_CONTRAST))

    def unnamed(self) -> list[str]:
        """Controls, outputs, regions and images without a name for a screen reader."""
        return list(self.js(_UNNAMED))

    def missed_by_tab(self, presses: int) -> list[str]:
        """Visible links, controls and scrolling regions that this many presses of Tab from the top do not reach."""
        self.js("document.activeElement.blur(); scrollTo(0, 0); window.seen = new Set()")
        for _ in range(presses):
            self.press("Tab")
            self.js("void seen.add(document.activeElement)")
        return list(self.js(_MISSED))

    def cut(self) -> list[str]:
        """Elements that reach over the right edge of the window and cannot be scrolled to."""
        return list(self.js(_CUT))

    def pdf(self) -> bytes:
        """The page as it prints."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A headless Chromium with a fresh profile in `profile`, ended when the block ends."""
    assert CHROMIUM is not None
    pipes = [*os.pipe(), *os.pipe()]
    # Above 9, so that none is overwritten while 3 and 4 are put in place.
    theirs_in, ours_out, ours_in, theirs_out = (fcntl.fcntl(p, fcntl.F_DUPFD_CLOEXEC, 10) for p in pipes)
    for pipe in pipes:
        os.close(pipe)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--no-first-run", "--disable-dev-shm-usage", "--remote-debugging-pipe", "about:blank"]
    quiet = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, quiet, 1), (os.POSIX_SPAWN_DUP2, quiet, 2)]
    actions += [(os.POSIX_SPAWN_DUP2, theirs_in, 3), (os.POSIX_SPAWN_DUP2, theirs_out, 4)]
    child = os.posix_spawn(command[0], command, dict(os.environ), file_actions=actions, setpgroup=0)
    for pipe in (theirs_in, theirs_out, quiet):
        os.close(pipe)
    try:
        yield Page(ours_out, ours_in)
    finally:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ours_out)
        os.close(ours_in)


def install() -> int:
    """Put Debian's Chromium in place where it is missing and this process may; says what it did. Always 0: tests skip."""
    import subprocess
    import sys

    if CHROMIUM:
        return 0
    why = "not root" if os.geteuid() else "no apt-get here" if shutil.which("apt-get") is None else ""
    if not why:
        print("installing chromium for the browser tests", file=sys.stderr)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        commands = (
            ["update", "-qq"],
            ["install", "-y", "-qq", "--no-install-recommends", "chromium", "chromium-driver"],
        )
        for arguments in commands:
            done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                why = (done.stderr.strip().splitlines() or ["apt-get failed"])[-1]
                break
    if why:
        print(f"browser tests will be skipped: chromium is missing ({why})", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(install())
