"""A real browser without a window, driven over its own debugging pipe: no package in between."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
KEYS = {
    "ArrowUp": 38, "ArrowDown": 40, "ArrowLeft": 37, "ArrowRight": 39, " ": 32, "+": 187, "-": 189,
}  # fmt: skip


def installed() -> str | None:
    """Path of a Chromium; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of 1440 x 900 pixels. `close` ends the process."""

    def __init__(self, profile_folder, size=(1440, 900)) -> None:
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def wired() -> None:  # the protocol has file numbers 3 and 4; both ends are out of their way first
            ours = os.dup(to_browser), os.dup(from_browser)
            high = [os.dup2(fd, 60 + k) for k, fd in enumerate(ours)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [
                str(installed()), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                "--remote-debugging-pipe", f"--user-data-dir={profile_folder}", "--no-first-run",
                f"--window-size={size[0]},{size[1]}", "about:blank",
            ],
            preexec_fn=wired, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._seen, self._session = 0, b"", None
        pages = self._call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in pages if target["type"] == "page")
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self._call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1,
            mobile=False,
        )  # fmt: skip

    def _call(self, method, timeout_s=30.0, **params):
        self._number += 1
        call = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            call["sessionId"] = self._session
        os.write(self._write, json.dumps(call).encode() + b"\0")
        end_s = time.monotonic() + timeout_s
        while True:
            while b"\0" in self._seen:
                text, self._seen = self._seen.split(b"\0", 1)
                answer = json.loads(text)
                if answer.get("id") == self._number:
                    assert "error" not in answer, answer
                    return answer["result"]
            ready, _, _ = select.select([self._read], [], [], max(end_s - time.monotonic(), 0.0))
            assert ready, f"{method}: the browser did not answer in {timeout_s} s"
            self._seen += os.read(self._read, 2**20)

    def open(self, address) -> None:
        """Go to an address, and wait until its page has been read."""
        self._call("Page.navigate", url=address)
        self.until(f"location.href === {json.dumps(address)} && document.readyState === 'complete'")

    def value(self, expression):
        """What an expression (or its promise) is, as JSON has it."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression, timeout_s=30.0):
        """Wait until an expression is true; returns it."""
        end_s = time.monotonic() + timeout_s
        while not (found := self.value(expression)):
            assert time.monotonic() < end_s, f"never true: {expression}"
            time.sleep(0.05)
        return found

    def press(self, key, *, shift=False) -> None:
        """A key, down and up."""
        modifiers = 8 if shift else 0
        text = {"text": key} if len(key) == 1 else {}
        code = KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                modifiers=modifiers, **(text if kind == "keyDown" else {}),
            )  # fmt: skip

    def screenshot(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """End the browser."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._write)
        os.close(self._read)
