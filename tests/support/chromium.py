"""A real headless browser, driven through its DevTools protocol like by a reader with mouse and keyboard."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PATIENCE_S = 30.0

Result = TypeVar("Result")

KEYS = {
    " ": ("Space", 32, " "),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "Home": ("Home", 36, ""),
    "End": ("End", 35, ""),
    "+": ("Equal", 187, "+"),
    "c": ("KeyC", 67, "c"),
}


def find_browser() -> str | None:
    """The path of Chromium or Chrome, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


class Browser:
    """One browser process; pages are opened one after the other."""

    def __init__(self, executable: str, profile: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = subprocess.Popen(
            [
                executable, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--no-first-run", "--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={profile}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        announced = profile / "DevToolsActivePort"
        deadline = time.monotonic() + PATIENCE_S
        while not announced.exists() or len(announced.read_text().splitlines()) < 2:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise RuntimeError(f"{executable} did not start (exit code {self._process.poll()})")
            time.sleep(0.05)
        port, path = announced.read_text().splitlines()[:2]
        self._socket = self._run(self._connect(f"ws://127.0.0.1:{port}{path}"))
        self._last_id = 0
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        self._run(self._disconnect())
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self._loop.close()

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Sends one command of the protocol; events that arrive in the meantime are kept."""
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        return self._run(self._exchange(message))

    def open(self, url: str, *, width: int = 1400, height: int = 900, dark: bool = False, pixels: float = 1) -> Page:
        return Page(self, url, width, height, dark, pixels)

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._loop.run_until_complete(asyncio.wait_for(work, PATIENCE_S))

    async def _connect(self, url: str) -> aiohttp.ClientWebSocketResponse:
        self._http = aiohttp.ClientSession()
        return await self._http.ws_connect(url, max_msg_size=0)

    async def _disconnect(self) -> None:
        await self._socket.close()
        await self._http.close()

    async def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        await self._socket.send_str(json.dumps(message))
        while True:
            answer = json.loads(await self._socket.receive_str())
            if answer.get("id") != message["id"]:
                self.events.append(answer)
                continue
            if "error" in answer:
                raise RuntimeError(f"{message['method']}: {answer['error']}")
            return dict(answer["result"])


class Page:
    """One page in a tab of its own."""

    def __init__(self, browser: Browser, url: str, width: int, height: int, dark: bool, pixels: float) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=pixels, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            assert time.monotonic() < deadline, f"still not: {expression}"
            time.sleep(0.02)

    def settle(self) -> None:
        """Waits until two more frames have been drawn."""
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def text(self, selector: str) -> str:
        return str(self.value(f"document.querySelector({json.dumps(selector)}).textContent"))

    def texts(self, selector: str) -> list[str]:
        return list(self.value(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)"))

    def place(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """A point within an element, which is scrolled into view."""
        box = self.value(
            f"(e => {{ e.scrollIntoView({{block: 'nearest'}}); const b = e.getBoundingClientRect();"
            f" return [b.x, b.y, b.width, b.height]; }})(document.querySelector({json.dumps(selector)}))"
        )
        return float(box[0] + across * box[2]), float(box[1] + down * box[3])

    def point(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.settle()

    def click(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        self.settle()

    def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        places = (("mousePressed", begin), ("mouseMoved", end), ("mouseReleased", end))
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=begin[0], y=begin[1])
        for kind, (x, y) in places:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        self.settle()

    def press(self, key: str) -> None:
        code, number, text = KEYS[key]
        common = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)
        self.settle()

    def screenshot(self, whole: bool = False) -> bytes:
        """PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"])

    def events(self, method: str) -> list[dict[str, Any]]:
        """Parameters of the events of this page so far."""
        self.value("0")  # pending events arrive first
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event.get("method") == method
        ]
