"""A headless Chromium, asked through its own protocol over two pipes: no further package.

https://chromedevtools.github.io/devtools-protocol: messages are JSON, each ended by a zero byte.
"""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)
"""Path of the browser, None where there is none."""

PATIENCE = 30.0
"""Seconds for an answer, on a busy machine."""


class Browser:
    """One page of a browser; ``errors`` holds what its console and its scripts complain of."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        flags = "--headless=new --no-sandbox --disable-gpu --no-first-run --remote-debugging-pipe"
        command = f'exec "$0" {flags} --user-data-dir="$1" about:blank 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command, CHROMIUM, self.folder.name],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._number, self._rest, self._session, self.errors = 0, b"", None, []
        targets = self._ask("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def open(self, path, width=1280, height=720, scheme="light", touch=False):
        """Open a file in a window of a size; return when the figures in sight are drawn."""
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=touch,
        )  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._ask("Emulation.setEmulatedMedia", media="", features=[feature])
        self._ask("Page.navigate", url="about:blank")
        self._ask("Page.navigate", url=f"file://{path}")
        self.wait("location.protocol === 'file:' && Boolean(document.documentElement)")
        self.wait("document.documentElement.dataset.ready === 'yes'")

    def imitate_paper(self):
        """Take the style of print until the next page is opened."""
        self._ask("Emulation.setEmulatedMedia", media="print")

    def evaluate(self, script):
        """Return the value of an expression in the page."""
        found = self._ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"]["exception"].get("description"))
        return found["result"].get("value")

    def wait(self, condition):
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.evaluate(condition):
                return
            time.sleep(0.05)
        raise AssertionError(f"never true: {condition}; {self.errors}")

    def click(self, selector, across=0.5):
        """Press the mouse on an element, as a reader does."""
        box = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'});"
            " const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
        )
        place = {"x": box[0] + across * box[2], "y": box[1] + 0.5 * box[3]}
        self.point(**place, press=True)

    def point(self, x, y, press=False):
        """Move the mouse to a place of the window, and press it there."""
        kinds = ("mouseMoved", "mousePressed", "mouseReleased") if press else ("mouseMoved",)
        for kind in kinds:
            button = "none" if kind == "mouseMoved" else "left"
            self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=1)

    def close(self):
        """End the browser."""
        try:
            self._session = None
            self._ask("Browser.close")
            self._process.wait(10)
        except (OSError, AssertionError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self.folder.cleanup()

    def _ask(self, method, **parameters):
        self._number += 1
        question = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            question["sessionId"] = self._session
        os.write(self._write, json.dumps(question).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(answer["error"])
                return answer["result"]
            self._note(answer)

    def _next(self):
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], max(0.0, end - time.monotonic()))[0]:
                raise AssertionError("the browser does not answer")
            read = os.read(self._read, 1 << 16)
            if not read:
                raise AssertionError("the browser has ended")
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled":
            if parameters["type"] in ("error", "warning", "assert"):
                self.errors.append(str(parameters["args"]))
        elif event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] in (
            "error",
            "warning",
        ):
            self.errors.append(str(parameters["entry"]))
