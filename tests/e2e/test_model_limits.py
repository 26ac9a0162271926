"""At the providers' limits: no 429 that we brought upon ourselves, nobody forgotten, whatever dies."""
import threading
import time
import unittest

from harness import Postgres, Server, free_port, wait_until
from model_case import WithModels
from people import Person, onboard_all, quantile


def print_shares(case: WithModels, seconds: float) -> None:
    for name, stats in case.stats().items():
        for window, w in stats["windows"].items():
            if w["limit"] and not window.endswith("_day"):
                print(f"{name} {window}: {w['total']} used of {w['limit'] * seconds / 60:.0f} in {seconds:.0f} s, most in a minute {w['peak']} of {w['limit']}", flush=True)


class EachLimitShape(WithModels):
    """Four providers, each with a limit of its own kind that binds."""
    limits = {"openai": {"requests_per_minute": 300, "tokens_per_minute": 120_000}, "gemini": {"requests_per_minute": 120, "input_tokens_per_minute": 100_000},
              "deepseek": {"max_concurrent": 2}, "anthropic": {"requests_per_minute": 120, "input_tokens_per_minute": 60_000, "output_tokens_per_minute": 6_000}}
    settings = {"model.anthropic.weight": 20}

    def test_is_never_overrun_at_saturation(self):
        self.strict.control("deepseek", latency_ms=300)
        self.strict.control(burst_seconds=3)
        began = time.monotonic()
        people = self.run_crowd(80, within_seconds=3)
        print_shares(self, time.monotonic() - began)
        self.assertEqual([p.number for p in people if p.finished is None], [])
        over = {name: s["over_limit"] for name, s in self.stats().items()}
        self.assertEqual(over, dict.fromkeys(over, 0), self.stats())
        took = [p.finished - p.arrived for p in people]
        told = [(t.answered - t.queued) / max(1, t.eta_seconds) for p in people for t in p.turns if t.queued]
        print(f"onboarded in p50 {quantile(took, 0.5):.1f} s, longest {max(took):.1f} s; {len(told)} turns were queued, actual over predicted: "
              f"p50 {quantile(told, 0.5):.2f}, p90 {quantile(told, 0.9):.2f}", flush=True)


class OneThatComesBack(WithModels):
    def test_gets_its_share_again(self):
        self.strict.control("openai", fault="refuse")
        self.assert_all_done(self.run_crowd(10))
        self.strict.control("openai", fault="none", forget=True)

        def is_back() -> bool:
            self.assert_all_done(self.run_crowd(5))
            return self.strict.stats("openai")["answered"] >= 20
        wait_until(is_back, "openai has calls again")


class KilledInASpike(WithModels):
    limits = {"openai": {"requests_per_minute": 600}, "gemini": {"requests_per_minute": 600}, "deepseek": {"max_concurrent": 4}}
    providers = ("openai", "gemini", "deepseek")

    def test_our_server_loses_no_message_and_answers_each_once(self):
        self.strict.control(latency_ms=300, jitter_ms=100)

        def kill_and_start() -> None:
            for _ in range(2):
                time.sleep(3)
                self.server.kill()
                self.server.start(self.environment)
        killer = threading.Thread(target=kill_and_start)
        killer.start()
        people = self.run_crowd(80, within_seconds=2)
        killer.join()
        self.assertEqual([p.number for p in people if p.finished is None], [])
        self.assertGreater(sum(t.broken for p in people for t in p.turns), 10, "the kill met nobody")
        self.assert_everybody_was_heard_once(people)
        over = {name: s["over_limit"] for name, s in self.stats().items()}
        self.assertEqual(over, dict.fromkeys(over, 0), "what was used before the kill counts, too")


class KilledWithAQueue(WithModels):
    limits = {"openai": {"requests_per_minute": 120}}
    providers = ("openai",)
    settings = {"model.offline.enabled": "false"}

    def test_serves_them_in_the_order_in_which_they_came_all_the_same(self):
        sessions = [self.server.begin() for _ in range(20)]
        for i in reversed(range(20)):
            answer = self.server.request("POST", sessions[i].path + "/messages", {"message": f"I'm Number {'abcdefghijklmnopqrst'[i]}"},
                                         sessions[i].authorization | {"Prefer": "respond-async"})
            self.assertEqual(answer.status, 202, answer)
        self.server.kill()
        self.strict.control(forget=True)
        self.server.start(self.environment)
        wait_until(lambda: all(len(s.conversation()) == 3 for s in sessions), "all are answered", 60, 0.5)
        asked = [body["messages"][-1]["content"][-1] for body in self.strict.show("requests", "openai")]
        self.assertGreater(len(asked), 12, "hardly anybody waited over the kill")
        self.assertEqual(asked, sorted(asked))


class TwoServersOneAccount(WithModels):
    """They share its limits by books in a PostgreSQL of its own."""
    limits = {"gemini": {"requests_per_minute": 6_000}}
    providers = ("gemini",)
    floor = 6_000 // 10 // 2

    def setUp(self):
        self.books = Postgres()
        self.addCleanup(self.books.close)
        self.settings = {"model.shared_budget_url": self.books.url, "model.max_servers": 2, "model.offline.enabled": "false"}
        super().setUp()
        settings = {name: value for name, value in self.server.settings.items() if name != "postgres.url"}
        self.other = Server(settings=settings | {"http.listen": f"127.0.0.1:{free_port()}", "http.admin_listen": f"127.0.0.1:{free_port()}"})
        self.addCleanup(self.other.close)
        self.other.start(self.environment)

    def limit(self, server: Server) -> int:
        (provider,) = server.request("GET", "/api/admin/llm", admin=True).json()["providers"]
        return next(limit["limit"] for limit in provider["limits"] if limit["name"] == "requests_per_minute")

    def test_never_overrun_it_and_one_that_restarts_while_the_books_are_gone_has_its_floor(self):
        self.strict.control(latency_ms=300, jitter_ms=100, burst_seconds=3)
        together: list[int] = []

        def disturb() -> None:
            time.sleep(6)
            together.append(self.limit(self.server) + self.limit(self.other))
            self.books.stop()
            self.server.kill()
            self.server.start(self.environment)
        disturber = threading.Thread(target=disturb)
        disturber.start()
        people = onboard_all([Person(n, (self.server, self.other)[n % 2].url) for n in range(100)], 20)
        disturber.join()
        self.assertEqual([p.number for p in people if p.finished is None], [])
        self.assertEqual([self.limit(self.server), self.limit(self.other)], [self.floor, self.floor])
        self.assertEqual(self.strict.stats("gemini")["over_limit"], 0)
        self.assertGreater(together[0], 2 * self.floor, "there was no share to lose")
        self.assertLessEqual(together[0], 6_000)


if __name__ == "__main__":
    unittest.main()
