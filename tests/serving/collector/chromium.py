"""Headless Chromium through its debugging pipe: no driver, no port, no library."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ANSWER_TIMEOUT_S = 60
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


class Browser:
    """One page, driven as a person would: keys and mouse."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to = to_browser
        self._from = from_browser
        self._pending = b""
        self._last_id = 0
        self._session: str | None = None

    def open(self, url: str) -> None:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        found = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not self.evaluate(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.05)

    def type(self, selector: str, text: str) -> None:
        self.click(selector)
        self._call("Input.insertText", text=text)

    def press_enter(self) -> None:
        for kind in ("keyDown", "keyUp"):
            self._call(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Enter",
                code="Enter",
                text="\r",
                windowsVirtualKeyCode=13,
            )

    def click(self, selector: str) -> None:
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = self.evaluate(f"(({{x, y, width, height}}) => [x + width/2, y + height/2])({box})")
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def leave(self) -> None:
        """Navigate away, as closing the tab would: the page gets its pagehide."""
        self._call("Page.navigate", url="about:blank")

    def close(self) -> None:
        self._session = None
        self._call("Browser.close")

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._last_id += 1
        message: dict[str, Any] = {"id": self._last_id, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._next_message())
            if answer.get("id") == self._last_id:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found

    def _next_message(self) -> bytes:
        while b"\0" not in self._pending:
            block = os.read(self._from, 1 << 16)
            assert block, "the browser ended"
            self._pending += block
        message, _, self._pending = self._pending.partition(b"\0")
        return message


@contextmanager
def chromium(binary: str, profile: Path) -> Iterator[Browser]:
    """A browser with an empty profile, ended afterwards."""
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    # The browser reads commands from 3 and writes answers to 4; only a shell can say so.
    script = f'exec "$@" 3<&{commands_out} 4>&{answers_in}'
    command = [binary, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
    process = subprocess.Popen(
        ["bash", "-c", script, "chromium", *command],
        pass_fds=(commands_out, answers_in),
        stderr=subprocess.DEVNULL,
    )
    os.close(commands_out)
    os.close(answers_in)
    browser = Browser(commands_in, answers_out)
    try:
        yield browser
        browser.close()
        process.wait(timeout=30)
    finally:
        os.close(commands_in)
        os.close(answers_out)
        if process.poll() is None:
            process.kill()
            process.wait()
