"""A headless Chromium, driven over the DevTools protocol by a pipe: no driver, no package, no port.

Chromium reads commands on descriptor 3 and writes answers on 4, each a JSON text that ends with a NUL byte.
"""
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
import time

from harness import PATIENCE, wait_until


class Browser:
    @staticmethod
    def program() -> str | None:
        return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

    def __init__(self) -> None:
        self.profile = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-browser."))
        commands_out, self.commands = os.pipe()
        self.answers, answers_in = os.pipe()
        arguments = [self.program(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
                     "--disable-background-networking", f"--user-data-dir={self.profile}", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(["bash", "-c", f'exec "$@" 3<&{commands_out} 4>&{answers_in}', "bash", *arguments],
                                        pass_fds=(commands_out, answers_in), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(commands_out)
        os.close(answers_in)
        self.buffer, self.last_id, self.session = b"", 0, None
        self.console: list[str] = []
        pages = self.call("Target.getTargets")["targetInfos"]
        page = next(p for p in pages if p["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")

    def call(self, method: str, **parameters):
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._next(deadline)
            if answer.get("method") == "Runtime.exceptionThrown":
                self.console.append(json.dumps(answer["params"])[:500])
            if answer.get("id") == self.last_id:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']}")
                return answer["result"]

    def _next(self, deadline: float) -> dict:
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.answers], [], [], max(0, deadline - time.monotonic()))
            chunk = os.read(self.answers, 1 << 16) if ready else b""
            if not chunk:
                raise AssertionError("the browser does not answer")
            self.buffer += chunk
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def evaluate(self, expression: str):
        done = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise AssertionError(f"{expression}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        wait_until(lambda: self.evaluate("document.readyState") == "complete", f"{url} is loaded")

    def reload(self) -> None:
        self.call("Page.reload")
        wait_until(lambda: self.evaluate("document.readyState") == "complete", "the page is loaded again")

    def text(self) -> str:
        return self.evaluate("document.body.innerText") or ""

    def see(self, *texts: str) -> None:
        wait_until(lambda: all(t in self.text() for t in texts), f"the page shows {texts}")

    def type_and_enter(self, text: str) -> None:
        """As a person: the keyboard, in the field that takes messages."""
        field = "document.querySelector('textarea, input[type=text], input:not([type])')"
        wait_until(lambda: self.evaluate(f"!!{field} && !{field}.disabled"), "there is a field to write in")
        self.evaluate(f"{field}.focus()")
        self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r" if kind == "keyDown" else "")

    def close(self) -> None:
        os.close(self.commands)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.answers)
        shutil.rmtree(self.profile, ignore_errors=True)
