"""A real server with real PostgreSQL on the strict providers, and people who onboard: what the tests of the model side have in common."""
import asyncio
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "integration/model"))
from harness import Database, Server  # noqa: E402
from people import Person, onboard_all  # noqa: E402
from strict_client import StrictServer  # noqa: E402

PROVIDERS = ("openai", "gemini", "deepseek", "anthropic")
NO_LIMITS = {"requests_per_minute": 0, "requests_per_day": 0, "max_concurrent": 0, "tokens_per_minute": 0, "input_tokens_per_minute": 0,
             "output_tokens_per_minute": 0}


class WithModels(unittest.TestCase):
    """A case with four providers without limits that answer in 30 ms ± 20, and a server that uses those named in `providers`."""

    providers = PROVIDERS
    limits: dict[str, dict[str, int]] = {}  # the same at the provider and at ours
    settings: dict[str, object] = {}
    keys: dict[str, str] = {}

    @classmethod
    def setUpClass(cls) -> None:
        cls.strict = StrictServer("--key", "sk-test", "--latency-ms", "30", "--jitter-ms", "20", "--no-limits")
        cls.addClassCleanup(cls.strict.close)

    def setUp(self) -> None:
        self.strict.control(fault="none", latency_ms=30, jitter_ms=20, caching=True, limits=NO_LIMITS, burst_seconds=60, forget=True)
        self.database = Database()
        self.addCleanup(self.database.close)
        settings = {}
        for provider in self.providers:
            limits = NO_LIMITS | self.limits.get(provider, {})
            settings |= {f"model.{provider}.{name}": limit for name, limit in limits.items()}
            self.strict.control(provider, limits=limits)
        self.server = Server(postgres_url=self.database.url, settings=settings | self.settings)
        self.addCleanup(self.server.close)
        self.environment = self.strict.environment(*self.providers)
        for provider, key in self.keys.items():
            self.environment[f"ONBOARD_MODEL_{provider.upper()}_API_KEY"] = key
        self.server.start(self.environment)

    # ---- what they ask
    def stats(self) -> dict[str, dict]:
        return {provider: self.strict.stats(provider) for provider in PROVIDERS}

    def run_crowd(self, size: int, within_seconds: float = 0) -> list[Person]:
        return onboard_all([Person(number, self.server.url) for number in range(size)], within_seconds)

    def assert_all_done(self, people: list[Person]) -> None:
        self.assertEqual([p.number for p in people if p.finished is None], [])
        self.assertEqual([t.answer for p in people for t in p.turns if t.answer["error"]], [])

    def assert_everybody_was_heard_once(self, people: list[Person]) -> None:
        """Each message stands in the conversation once, with one reply."""
        async def look() -> None:
            for person in people:
                lines = await person.conversation()
                person.close()
                self.assertEqual([m["text"] for m in lines if m["role"] == "user"], person.said)
                self.assertEqual(len([m for m in lines if m["role"] == "assistant"]), len(person.said) + 1)
        asyncio.run(look())
