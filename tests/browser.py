"""A headless Chromium through chromedriver's WebDriver interface: no more than the report's test needs."""

import base64
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

OPT_OUT = "POSA_VLA_WITHOUT_BROWSER"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def find() -> tuple[str, str]:
    """Paths of chromium and chromedriver; a missing browser is a failure unless someone said so aloud."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if found[0] and found[1]:
        return found[0], found[1]
    if os.environ.get(OPT_OUT) == "1":
        pytest.skip(f"no browser, and {OPT_OUT}=1")
    pytest.fail(
        "expected a browser to test the report in, found no chromium or chromedriver: install Debian's packages "
        f"(apt-get install chromium chromium-driver), or set {OPT_OUT}=1 to leave this test out"
    )


class Browser:
    """One browser window; close it."""

    def __init__(self, profile: Path) -> None:
        chromium, driver = find()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self.process = subprocess.Popen(
            [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        try:
            self._wait_for_driver()
            self.session = f"/session/{self._call('POST', '/session', _always(wanted))['sessionId']}"
        except BaseException:
            self.process.terminate()
            raise

    def open(self, path: Path, width: int, dark: bool) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self._call("POST", self.session + "/url", {"url": path.as_uri()})

    def run(self, script: str) -> Any:
        """The value that a script's promise or return statement gives."""
        return self._call("POST", self.session + "/execute/sync", {"script": script, "args": []})

    def console(self) -> list[dict]:
        return self._call("POST", self.session + "/se/log", {"type": "browser"})

    def screenshot(self, width: int, height: int) -> bytes:
        """PNG of the page from its top."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        return base64.b64decode(self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"])

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._call("POST", self.session + "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def close(self) -> None:
        try:
            self._call("DELETE", self.session)
        finally:
            self.process.terminate()
            self.process.wait(timeout=20)

    def _wait_for_driver(self) -> None:
        for _ in range(200):
            try:
                self._call("GET", "/status")
                return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError("chromedriver does not answer")

    def _call(self, method: str, path: str, body: dict | None = None) -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy to this machine
        try:
            with opener.open(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from error


def _always(capabilities: dict) -> dict:
    return {"capabilities": {"alwaysMatch": capabilities}}
