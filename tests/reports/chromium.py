"""A browser that does what it is told, over a pipe: what a page is on a screen, for a key, on paper."""

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE = 120.0  # seconds for one answer
# The browser reads commands from descriptor 3, and answers on 4.
PIPES = """
import os, sys
for given, wanted in zip(sys.argv[1:3], (3, 4)):
    os.dup2(int(given), wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
    "--hide-scrollbars", "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
LOGGED = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
CODES = {"Enter": (13, "\r"), " ": (32, " ")}


class Tab:
    """A page in the browser; `logged` are the errors and messages that it logs."""

    def __init__(self, ask, heard):
        self.logged, self._asked, self._heard = [], ask, heard
        self._ids, self._session = 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Ask the browser, and wait for the answer."""
        self._ids += 1
        command = {"id": self._ids, "method": method, "params": params}
        self._asked(command | ({"sessionId": self._session} if self._session else {}))
        answer = self._until(lambda told: told.get("id") == self._ids)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def _until(self, wanted):
        while True:
            told = self._heard()
            if told.get("sessionId") != self._session:  # of a tab from before
                continue
            if told.get("method") in LOGGED:
                self.logged.append(told["params"])
            if wanted(told):
                return told

    def show(self, address, look):
        """Load a page, light or dark."""
        feature = {"name": "prefers-color-scheme", "value": look}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self.call("Page.navigate", url=address)
        self._until(lambda told: told.get("method") == "Page.loadEventFired")

    def resize(self, width):
        """Make it as wide as so many pixels."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def run(self, script):
        """Return what a script comes to, which may be waited for."""
        options = {"awaitPromise": True, "returnByValue": True}
        answer = self.call("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key):
        """Press a key, and let it go."""
        code, text = CODES[key]
        known = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)


@contextlib.contextmanager
def browser(profile):
    """Start a browser with a profile of its own; gives a function that opens tabs, one after another."""
    ours, theirs = os.pipe(), os.pipe()  # commands, answers
    inherited = ours[0], theirs[1]
    command = [sys.executable, "-c", PIPES, *map(str, inherited), BROWSER, *OPTIONS]
    command.append(f"--user-data-dir={profile}")
    process = subprocess.Popen(
        command, pass_fds=inherited, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for end in inherited:
        os.close(end)
    waiting = bytearray()

    def ask(command):
        os.write(ours[1], json.dumps(command).encode() + b"\0")

    def heard():
        deadline = time.monotonic() + PATIENCE
        while b"\0" not in waiting:
            if not select.select([theirs[0]], [], [], deadline - time.monotonic())[0]:
                raise TimeoutError(f"no answer within {PATIENCE} seconds")
            waiting.extend(os.read(theirs[0], 1 << 20) or b"{}\0")
        message, _, rest = bytes(waiting).partition(b"\0")
        waiting[:] = rest
        return json.loads(message)

    try:
        yield lambda: Tab(ask, heard)
    finally:
        process.terminate()
        process.wait(30)
        os.close(ours[1])
        os.close(theirs[0])
