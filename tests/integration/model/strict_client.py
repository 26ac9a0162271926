"""Starts the strict provider server for Python tests and measurements, and steers it."""
import http.client
import json
import pathlib
import subprocess
import sys
from urllib.parse import urlsplit


class StrictServer:
    def __init__(self, *options: str) -> None:
        program = pathlib.Path(__file__).with_name("strict_provider.py")
        self.process = subprocess.Popen([sys.executable, str(program), "--until-eof", *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.urls: dict[str, str] = json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def request(self, method: str, url: str, body=None, headers: dict[str, str] | None = None, timeout: float = 30) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=timeout)
        try:
            payload = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            connection.request(method, parts.path + ("?" + parts.query if parts.query else ""), payload, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def control(self, provider: str = "*", **settings) -> None:
        status, _, body = self.request("POST", self.urls["control"] + "/control", {"provider": provider, **settings})
        assert status == 200, body

    def show(self, what: str, provider: str):
        return json.loads(self.request("GET", f"{self.urls['control']}/{what}?provider={provider}")[2])

    def stats(self, provider: str) -> dict:
        return self.show("stats", provider)

    def environment(self, *providers: str, key: str = "sk-test") -> dict[str, str]:
        """The configuration of a server under test that is to use these providers."""
        names = {}
        for provider in providers:
            names |= {f"ONBOARD_MODEL_{provider.upper()}_BASE_URL": self.urls[provider] + ("/v1" if provider == "openai" else ""),
                      f"ONBOARD_MODEL_{provider.upper()}_API_KEY": key, f"ONBOARD_MODEL_{provider.upper()}_ENABLED": "true"}
        return names
