"""The four providers behind a real server: shared as configured, and nobody notices when one or all of them fail."""
import bisect
import http.client
import json
import threading
import time
import unittest

from harness import PATIENCE, wait_until
from model_case import PROVIDERS, WithModels



class FourProviders(WithModels):
    def test_share_the_calls_by_weight(self):
        people = self.run_crowd(25, within_seconds=2)
        self.assert_all_done(people)
        calls = {name: s["calls"] for name, s in self.stats().items()}
        total = sum(calls.values())
        self.assertGreaterEqual(total, 25 * 6)
        for name, weight in (("openai", 0.4), ("gemini", 0.4), ("deepseek", 0.2), ("anthropic", 0)):
            self.assertAlmostEqual(calls[name] / total, weight, delta=0.04, msg=str(calls))
        self.assertEqual({name: s["statuses"] for name, s in self.stats().items() if set(s["statuses"]) - {"200"}}, {})

    def test_one_that_dies_under_load_costs_nobody_an_answer(self):
        died: list[float] = []

        def kill() -> None:
            time.sleep(1.5)
            died.append(time.time())
            self.strict.control("openai", fault="refuse")
        killer = threading.Thread(target=kill)
        killer.start()
        people = self.run_crowd(60, within_seconds=4)
        killer.join()
        self.assert_all_done(people)
        moved = self.seconds_until_moved(died[0])
        slowest = max(t.seconds for p in people for t in p.turns)
        self.assertLess(self.model_status("openai")["failures_total"], 60, "those under way and the few that opened the breaker, not its share of the rest")
        print(f"its traffic had moved {moved * 1000:.0f} ms after the death; the longest turn took {slowest * 1000:.0f} ms", flush=True)

    def model_status(self, provider: str) -> dict:
        return next(p for p in self.server.request("GET", "/api/admin/llm", admin=True).json()["providers"] if p["name"] == provider)

    def test_what_one_person_writes_closes_no_provider(self):
        self.strict.control(fault="refusal")
        nasty = self.server.begin()
        for number in range(6):
            nasty.told(f"something nasty {number}")
        self.assertLessEqual(sum(s["calls"] for s in self.stats().values()), 6 * 3, "each is tried once more elsewhere, a blank one there, too")
        self.strict.control(fault="none")
        self.assertEqual([self.model_status(p)["breaker"]["state"] for p in PROVIDERS], ["closed"] * 4)
        before = sum(s["answered"] for s in self.stats().values())
        self.assertEqual(self.server.begin().told("I'm Vera Stone")["extracted"], {"full_name": "Vera Stone"})
        self.assertEqual(sum(s["answered"] for s in self.stats().values()), before + 1)

    def seconds_until_moved(self, died: float) -> float:
        """From the death until the first fifth of a second in which the living ones had nine tenths of what all had before it."""
        alive = sorted(t for name in ("gemini", "deepseek", "anthropic") for t in self.strict.show("arrivals", name))
        everybody = sorted(alive + self.strict.show("arrivals", "openai"))
        usual = (bisect.bisect(everybody, died) - bisect.bisect(everybody, died - 1)) / 5
        for at in (died + step / 100 for step in range(1_000)):
            if bisect.bisect(alive, at + 0.2) - bisect.bisect(alive, at) >= 0.9 * usual:
                return at - died
        return float("inf")

    def test_with_all_of_them_gone_the_offline_extractor_answers(self):
        self.strict.control(fault="refuse")
        people = self.run_crowd(10)
        self.assert_all_done(people)
        self.assertEqual(sum(s["answered"] for s in self.stats().values()), 0)
        self.assert_everybody_was_heard_once(people)

    def test_a_storm_of_429_at_one_is_weathered_by_the_others(self):
        self.strict.control("openai", fault="storm")
        people = self.run_crowd(25, within_seconds=2)
        self.assert_all_done(people)
        stats = self.stats()
        self.assertLess(stats["openai"]["rate_limited"], 60, "it is asked again as often as it says, not with every turn")
        self.assertEqual(sum(s["over_limit"] for s in stats.values()), 0)

    def test_faults_of_many_kinds_at_once_reach_nobody(self):
        self.strict.control("openai", fault="error500", share=0.3)
        self.strict.control("gemini", fault="unknown_field", share=0.3)
        self.strict.control("deepseek", fault="empty", share=0.3)
        self.strict.control("anthropic", fault="overloaded", share=0.3)
        people = self.run_crowd(15, within_seconds=1)
        self.assert_all_done(people)
        self.assert_everybody_was_heard_once(people)


class TheReplyAsItIsWritten(WithModels):
    def test_comes_over_the_stream_piece_by_piece_from_every_provider(self):
        self.strict.control(latency_ms=400, jitter_ms=0)
        for chosen in PROVIDERS:
            with self.subTest(chosen):
                for provider in PROVIDERS:
                    changed = self.server.request("PATCH", f"/api/admin/llm/{provider}", {"weight": 100 if provider == chosen else 0}, admin=True)
                    self.assertEqual(changed.status, 200, changed)
                before = self.strict.stats(chosen)["answered"]
                session = self.server.begin()
                with Listener(session) as listener:
                    listener.until("status")  # from here on it looks on
                    answer = session.told("I'm Ann Smith")
                    events = listener.until("turn")
                self.assertEqual(self.strict.stats(chosen)["answered"], before + 1)
                pieces = [data for kind, data in events if kind == "reply"]
                self.assertGreater(len(pieces), 1, events)
                self.assertEqual("".join(p["text"] for p in pieces), answer["response"])


class Listener:
    """Reads a session's server-sent events."""

    def __init__(self, session) -> None:
        self.connection = http.client.HTTPConnection(*session.server.address, timeout=PATIENCE)
        self.connection.request("GET", session.path + "/stream", headers=session.authorization)
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_) -> None:
        self.connection.close()

    def until(self, last: str) -> list[tuple[str, dict]]:
        """All events up to the first of this kind."""
        events, kind = [], ""
        while kind != last:
            line = self.response.readline().decode().rstrip("\n\r")
            name, _, value = line.partition(": ")
            if name == "event":
                kind_of_this = value
            elif name == "data":
                kind = kind_of_this
                events.append((kind, json.loads(value)))
        return events


class OneThatHangs(WithModels):
    settings = {"model.openai.timeout_seconds": 1}

    def test_is_left_at_its_time_out_and_then_alone(self):
        self.strict.control("openai", fault="hang")
        people = self.run_crowd(40, within_seconds=4)
        self.assert_all_done(people)
        stats = self.strict.stats("openai")
        self.assertEqual(stats["answered"], 0)
        self.assertLess(stats["calls"], 0.3 * 40 * 6, "its share would be two fifths of them")
        late = [t.seconds for p in people for t in p.turns if t.seconds > 1]
        print(f"{len(late)} of {40 * 6} turns waited for it, the longest {max(late):.1f} s", flush=True)


class Plans(WithModels):
    settings = {"model.plans": "pro share=4"}

    def test_are_given_by_the_application_and_by_nobody_else(self):
        def start(plan: str, **more):
            return self.server.request("POST", "/api/onboarding/sessions", {"plan": plan}, **more)
        self.assertEqual(start("free").status, 201)
        unknown = start("gold")
        self.assertEqual(unknown.status, 422)
        self.assertIn("free, pro", unknown.json()["errors"][0]["detail"])
        self.assertEqual(start("pro").status, 401)
        key = {"Authorization": f"Bearer {self.server.operator_key()}"}
        self.assertEqual(start("pro", headers=key).status, 201)


class AWrongKey(WithModels):
    keys = {"gemini": "sk-wrong"}

    def test_is_told_to_operators_and_harms_nobody(self):
        people = self.run_crowd(20, within_seconds=2)
        self.assert_all_done(people)
        stats = self.stats()
        self.assertEqual(stats["gemini"]["answered"], 0)
        self.assertLess(stats["gemini"]["calls"], 40, "it is left alone")
        self.assertTrue([line for line in self.server.log().splitlines() if "alert:" in line and "gemini" in line])
        self.assertNotIn("sk-wrong", self.server.log())


class WithoutTheOfflineExtractor(WithModels):
    settings = {"model.offline.enabled": "false"}

    def test_all_gone_is_a_graceful_answer_with_the_message_kept_and_the_next_one_works(self):
        self.strict.control(fault="error503")
        session = self.server.begin()
        answer = session.told("I'm Ann Smith")
        self.assertTrue(answer["error"], answer)
        self.assertEqual((answer["extracted"], answer["is_complete"]), ({}, False))
        self.assertIn("technical difficulties", answer["response"])
        self.assertEqual([m["text"] for m in session.conversation() if m["role"] == "user"], ["I'm Ann Smith"])
        self.strict.control(fault="none")
        answer = wait_until(lambda: (a := session.told("I'm Ann Smith")) and not a["error"] and a, "a provider answers again")
        self.assertEqual(answer["extracted"], {"full_name": "Ann Smith"})


if __name__ == "__main__":
    unittest.main()
