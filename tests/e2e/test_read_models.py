"""The read models of a server are what a fold of its log, written apart, says: every table and view, row by row."""
import http.server
import json
import re
import subprocess
import sys
import threading
import unittest

import fold
from harness import LOG, PATIENCE, ROOT, Database, Server, Session, WithDatabase, free_port, wait_until
from model_case import WithModels
from people import lines_of


class ReadModels(WithDatabase):
    settings = {"sessions.abandon_after_minutes": 0.05}

    def onboard(self, number: int, **start):
        session = self.server.begin(**start)
        lines = lines_of(number)
        for _ in range(12):
            missing = session.state()["missing"]
            if not missing:
                return session
            session.told(lines[missing[0]])
        raise AssertionError(f"not done: {session.state()}")

    def test_tables_and_views_are_the_fold_of_the_log(self):
        done = [self.onboard(n) for n in range(3)]
        done[0].told("Sorry, my email is corrected@example.com")
        half = self.server.begin()
        half.told("I'm Ann Abbott")
        half.told("my mail is ann")
        late = self.server.begin(user_id="late@example.com", plan="pro")
        wait_until(lambda: half.state()["status"] == late.state()["status"] == "abandoned", "both sessions are abandoned")
        late.told("I'm Ben Brandt, ben@example.com")
        # Two sessions of a person that the application vouches for, and one of somebody else who only uses the name.
        key = {"Authorization": "Bearer " + self.server.operator_key()}
        vouched = [self.server.request("POST", "/api/onboarding/sessions", {"user_id": "gone@example.com"}, key).json() for _ in range(2)]
        namesake = self.server.begin(user_id="gone@example.com")
        namesake.told("I'm Dan Duarte")
        Session(self.server, vouched[0]).told("I'm Cleo Cole and my email is gone@example.com")
        fold.assert_follows(self.server, self.database.url)
        erased = self.server.request("DELETE", "/api/users/gone@example.com", headers=Session(self.server, vouched[1]).authorization)
        self.assertEqual((erased.status, erased.json()["sessions"]), (200, 2), erased)
        self.assertEqual(namesake.state()["fields"], {"full_name": "Dan Duarte"})
        expected = fold.assert_follows(self.server, self.database.url)
        self.assertEqual([row["erased"] for row in expected["onboarding_sessions"].values()].count(True), 2)
        erased = self.server.request("DELETE", "/api/users/gone@example.com", headers=key)
        self.assertEqual((erased.status, erased.json()["sessions"]), (200, 1), erased)
        self.assertEqual(self.server.request("DELETE", "/api/users/gone@example.com", headers=key).status, 404)
        self.assertEqual(self.server.request("GET", "/api/users/gone@example.com/export", headers=key).status, 404)
        self.assertNotIn("gone@example.com", self.server.ctl("events", "export", "--open").stdout)
        # Who comes back begins a new life.
        back = self.server.request("POST", "/api/onboarding/sessions", {"user_id": "gone@example.com"}, key).json()
        Session(self.server, back).told("I'm Cleo Cole")
        expected = fold.assert_follows(self.server, self.database.url)
        self.assertEqual(len(expected["users"]), 6)
        self.assertEqual(expected["onboarding_sessions"][half.id,]["status"], "abandoned")
        self.assertEqual(expected["session_analytics"][late.id,]["resumes"], 1)  # and perhaps abandoned again by now
        self.assertEqual(expected["session_analytics"][done[0].id,]["fields_corrected"], 1)
        steps = sorted(expected["funnel"].items())
        self.assertEqual([row["name"] for _, row in steps], ["started"] + ["asked", "filled"] * 6 + ["completed"])
        self.assertEqual((steps[0][1]["sessions"], steps[2][1]["sessions"], steps[-1][1]["sessions"]), (9, 8, 3))
        self.every_query_of_the_document_runs()
        self.a_wrong_row_is_found(half.id)

    def a_wrong_row_is_found(self, session_id: str):
        self.database.query(f"UPDATE session_analytics SET fields_rejected = 7 WHERE session_id = '{session_id}'")
        self.database.query(f"DELETE FROM conversation_messages WHERE session_id = '{session_id}' AND version = 1")
        def tables_told() -> set[str]:
            export = self.server.ctl("events", "export", "--open").stdout
            done = subprocess.run([sys.executable, "-B", "-m", "tests.fold", "--database", self.database.url, "-"], input=export, text=True,
                                  capture_output=True, cwd=ROOT)
            self.assertEqual(done.returncode, 1, done.stderr)
            return {line.split(":")[0] for line in done.stdout.splitlines()}
        # A session that is abandoned between the export and the look at the tables differs, too, for a moment.
        told = {"session_analytics", "conversation_messages", "session_facts", "quality_by_day"}
        wait_until(lambda: tables_told() == told, f"these differ and no others: {told}")

    def test_a_person_who_is_parked_waits_and_everybody_else_is_the_fold(self):
        self.server.begin(user_id="before@example.com")
        fold.assert_follows(self.server, self.database.url)
        # PostgreSQL refuses the row: an event that cannot be applied, whoever writes it.
        self.database.query("ALTER TABLE onboarding_sessions ADD CONSTRAINT poison CHECK (user_id <> 'poison@example.com')")
        poisoned, fine = self.server.begin(user_id="poison@example.com"), self.server.begin(user_id="fine@example.com")
        for session in (poisoned, fine):
            session.told("I'm Ann Abbott, ann@example.com")
        expected = fold.assert_follows(self.server, self.database.url)
        self.assertEqual(sorted(row["user_id"] for row in expected["onboarding_sessions"].values()), ["before@example.com", "fine@example.com"])
        self.assertEqual(len(expected["users"]), 3, "parked in one projection only")
        self.assertEqual(self.database.query("SELECT DISTINCT projection FROM projection_parked_keys"), "sessions")
        health = self.server.request("GET", "/api/metrics/health").json()
        self.assertEqual((health["status"], health["projections"]["sessions"]["parked"]), ("degraded", 1), health)

    def test_tables_and_views_are_the_fold_after_every_projection_was_rebuilt_and_went_live(self):
        session = self.server.begin(user_id="ann@example.com")
        session.told("I'm Ann Abbott, ann@example.com")
        fold.assert_follows(self.server, self.database.url)
        for projection in fold.PROJECTIONS:
            self.server.ctl("projections", "rebuild", projection)
        session.told("I work at Keller Labs")
        expected = fold.assert_follows(self.server, self.database.url)
        self.assertEqual(expected["session_analytics"][session.id,]["user_messages"], 2)
        live = self.database.query("SELECT count(*) FROM projection_generations WHERE state = 'live' AND generation > 1")
        self.assertEqual(int(live), len(fold.PROJECTIONS))

    def test_a_rebuild_that_does_not_go_live_fails_and_says_why(self):
        self.server.begin(user_id="ann@example.com").told("I'm Ann Abbott")
        fold.assert_follows(self.server, self.database.url)
        self.database.query("CREATE PUBLICATION told FOR TABLE onboarding_sessions")
        rebuild = lambda *options: self.server.ctl("projections", "rebuild", "sessions", *options, check=False)
        refused = rebuild()
        self.assertEqual(refused.returncode, 1, refused.stderr)
        self.assertIn("publication told", refused.stderr)
        self.database.query("ALTER PUBLICATION told DROP TABLE onboarding_sessions")
        stale = rebuild("--revision", "1")
        self.assertEqual(stale.returncode, 1, stale.stderr)
        self.assertIn("revision 1 was seen, it is ", stale.stderr)
        self.assertEqual(rebuild().returncode, 0)
        kept = rebuild("--no-swap")
        self.assertEqual(kept.returncode, 0, kept.stderr)
        self.database.query("UPDATE onboarding_sessions SET total_messages_count = 77")
        self.assertEqual(rebuild().returncode, 1, "they differ")
        self.assertEqual(rebuild("--yes").returncode, 0)
        fold.assert_follows(self.server, self.database.url)

    def test_how_projections_stand_is_told_with_rates_and_what_is_asked_wrong_is_refused(self):
        session = self.server.begin(user_id="ann@example.com")
        fold.assert_follows(self.server, self.database.url)
        self.server.ctl("replay", "--projection", "usage", "--into", "then")
        others = lambda: self.server.request("GET", "/api/admin/projections/usage", admin=True).json()["generations"]
        wait_until(lambda: [(g["state"], g.get("phase")) for g in others()] == [("replay", "done")], "the replay is told of, as filled")
        ready = self.server.request("GET", "/readyz?verbose", admin=True).json()["projections"]["sessions"]
        self.assertEqual((ready["stalled"], ready["events_per_second"] >= 0), ([], True))
        scraped = self.server.request("GET", "/metrics", admin=True).body.decode()
        self.assertIn('onboarding_projection_events_per_second{partition="0",projection="sessions"}', scraped)
        self.assertEqual(self.server.request("POST", "/api/admin/projections/usage/restart", admin=True).status, 202)
        self.assertEqual(self.database.query("SELECT actor FROM projection_audit WHERE action = 'restart'"), "operator at 127.0.0.1")
        unknown = self.server.request("GET", "/api/events?types=UserErased&sesion=x", admin=True)
        self.assertEqual(unknown.status, 422)
        self.assertIn("types, sesion", unknown.json()["detail"])
        for position in ("0:1000000", "99:1"):
            self.assertEqual(self.server.request("GET", f"/api/users/{session.user_id}/profile?min_position={position}", headers=session.authorization).status, 422)

    def every_query_of_the_document_runs(self):
        text = (ROOT / "infra/docs/READ_MODELS.md").read_text()
        documented = set(re.findall(r"^## (\w+)$", text, re.MULTILINE))
        self.assertEqual(documented, set(fold.ALL_KEYS))
        for name in documented:
            section = text.split(f"\n## {name}\n")[1].split("\n## ")[0].split("\n# ")[0]
            columns = set(self.database.query(f"SELECT column_name FROM information_schema.columns WHERE table_name = '{name}'").split())
            if name != "session_facts":  # those of two tables that stand above it
                self.assertLessEqual(columns, set(re.findall(r"`(\w+)`", section)), name)
            for query in re.findall(r"```sql\n(.*?)```", section, re.DOTALL):
                with self.subTest(query=query):
                    answer = self.database.query(query)
                    self.assertTrue(answer or "ses_…" in query or name == "token_usage")
            self.assertIn("```sql", section, name)


class CallsOfModels(WithModels):
    settings = {"model.anthropic.weight": 20, "postgres.metrics_ttl_seconds": 0}

    def test_usage_and_costs_are_the_fold_of_the_log_and_the_routes_say_the_same(self):
        self.assert_all_done(self.run_crowd(8))
        self.strict.control("openai", fault="refuse")
        self.assert_all_done(self.run_crowd(4))
        expected = fold.assert_follows(self.server, self.database.url)
        usage = expected["token_usage"].values()
        self.assertGreaterEqual({row["provider"] for row in usage}, {"openai", "gemini", "deepseek"})
        self.assertGreater(sum(row["failed_calls"] for row in usage), 0)
        self.assertGreater(sum(row["cost_nanodollars"] for row in usage), 0)

        def asked(what: str) -> dict:
            answer = self.server.request("GET", "/api/metrics/" + what, admin=True)
            self.assertEqual(answer.status, 200, answer)
            return answer.json()
        told = asked("usage")["total"]
        for column in ("calls", "failed_calls", "unpriced_calls", "input_tokens", "output_tokens", "cost_nanodollars"):
            self.assertEqual(told[column], sum(row[column] for row in usage), column)
        completion, = expected["completion_by_day"].values()
        told = asked("completion")
        for name, column in (("started", "started"), ("completed", "completed"), ("completion_rate", "completion_rate"),
                             ("avg_duration_minutes", "avg_minutes"), ("p50_minutes", "p50_minutes"), ("p90_minutes", "p90_minutes"),
                             ("p99_minutes", "p99_minutes")):
            self.assertAlmostEqual(told[name], completion[column], msg=name)
        quality, = expected["quality_by_day"].values()
        told = asked("quality")
        for rate in ("extraction_rate", "reask_rate", "validation_failure_rate", "fallback_rate", "failed_turn_rate", "failed_call_rate"):
            self.assertAlmostEqual(told[rate], quality[rate] or 0, msg=rate)
        self.assertEqual([(s["name"], s.get("field"), s["sessions"]) for s in asked("funnel")["steps"]],
                         [(row["name"], row["field"], row["sessions"]) for _, row in sorted(expected["funnel"].items())])
        buckets = {row["bucket"]: row["sessions"] for row in expected["message_buckets"].values()}
        self.assertEqual({b: n for b, n in asked("messages")["buckets"].items() if n}, buckets)


class Process(Server):
    """Of a server's parts, those that its roles name."""

    def __init__(self, roles: str, **named) -> None:
        super().__init__(**named)
        self.roles = roles

    def command(self) -> list[str]:
        return [*super().command(), "--roles", self.roles]


class BesideTheServer(unittest.TestCase):
    """What a process that only follows the log tells of itself."""

    def setUp(self) -> None:
        self.database = Database()
        self.addCleanup(self.database.close)
        self.server = Process("api,sessions", postgres_url=self.database.url)
        self.addCleanup(self.server.close)
        self.server.start()
        self.followers = 0

    def follower(self, **settings) -> Process:
        beside = Process("projections", folder=self.server.folder)
        self.addCleanup(beside.close)
        address = f"127.0.0.1:{free_port()}"
        beside.settings = self.server.settings | {"http.listen": address, "http.ops_listen": address} | settings
        self.followers += 1
        beside.starts = 100 * self.followers  # the names of its logs
        return beside

    def test_is_whether_it_lives_and_reaches_postgresql_with_its_metrics_and_nothing_else(self):
        followers = [self.follower().start() for _ in range(2)]
        self.server.begin().told("I'm Ann Abbott")
        fold.assert_follows(self.server, self.database.url)
        applied = 0.0
        for beside in followers:
            self.assertEqual(beside.request("GET", "/livez").body, b"ok\n")
            self.assertEqual(beside.request("GET", "/readyz").body, b"ready\n")
            told = wait_until(lambda: (now := beside.request("GET", "/readyz?verbose").json())["projections"]["sessions"]["state"] == "running" and now,
                              "it says that they follow")
            self.assertEqual((told["ready"], told["database"]), (True, "ok"), told)
            lines = beside.request("GET", "/metrics").body.decode().splitlines()
            self.assertIn("onboarding_postgres_up 1", lines)
            applied += sum(float(line.split()[1]) for line in lines if line.startswith("onboarding_projection_events_total"))
            key = {"Authorization": "Bearer " + self.server.operator_key()}
            for method, path in (("GET", "/"), ("GET", "/openapi.json"), ("GET", "/api/metrics/health"), ("GET", "/api/admin/projections/sessions"),
                                 ("POST", "/api/onboarding/sessions"), ("GET", "/readyz/")):
                refused = beside.request(method, path, headers=key)
                self.assertEqual((refused.status, refused.headers["content-type"]), (404, "application/problem+json"), path)
        self.assertGreater(applied, 0, "they count what they applied")
        self.assertEqual([beside.terminate() for beside in followers], [0, 0])
        self.assertEqual(self.server.ctl("where", "--ready").returncode, 0, "the server's traces are its own")

    def test_is_at_an_address_that_nobody_else_has_or_nowhere(self):
        first = self.follower().start()
        for taken in (first.settings["http.ops_listen"], self.server.settings["http.listen"]):
            second = self.follower(**{"http.ops_listen": taken})
            second.launch()
            self.assertEqual(second.process.wait(PATIENCE), 1)
            self.assertIn(f"{taken} (http.ops_listen): another program listens there", second.log())
        silent = self.follower(**{"http.ops_listen": ""})
        silent.launch()
        wait_until(lambda: '"ready"' in silent.log(), "it follows")
        with self.assertRaises(ConnectionRefusedError):
            silent.request("GET", "/livez")

    def test_is_that_it_is_not_ready_while_postgresql_cannot_be_reached(self):
        lost = self.follower(**{"postgres.url": "postgresql:///none?host=/nowhere"})
        lost.launch()
        wait_until(lambda: '"ready: http' in lost.log(), "it listens")
        self.assertEqual(lost.request("GET", "/livez").status, 200)
        answer = wait_until(lambda: (told := lost.request("GET", "/readyz?verbose")).json().get("detail") and told, "it tried")
        self.assertEqual((answer.status, answer.json()["ready"], answer.json()["database"]), (503, False, "down"))
        self.assertEqual(lost.request("GET", "/readyz").body, b"PostgreSQL cannot be reached\n")


class Watching(unittest.TestCase):
    """What `onboardctl projections rebuild` makes of what a server tells."""

    def setUp(self):
        self.server = Server().start()
        self.addCleanup(self.server.close)
        self.posted, test = [], self

        class Stub(http.server.BaseHTTPRequestHandler):
            def answer(self, status: int, told: dict) -> None:
                body = json.dumps(told).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.answer(200, {"name": "sessions", "generation": 5} | test.statuses[0])
                if len(test.statuses) > 1:
                    test.statuses.pop(0)

            def do_POST(self):
                test.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer(202, {"name": "sessions", "revision": 2, "generation": 7, "status_url": ""})

            def log_message(self, *_):
                pass

        stub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub)
        threading.Thread(target=stub.serve_forever, daemon=True).start()
        self.addCleanup(stub.server_close)
        self.addCleanup(stub.shutdown)
        running = self.server.data / "running.toml"
        running.write_text(running.read_text().replace(self.server.settings["http.admin_listen"], f"127.0.0.1:{stub.server_port}"))

    def rebuild(self, *statuses: dict):
        self.statuses = list(statuses)
        return self.server.ctl("projections", "rebuild", "sessions", check=False)

    @staticmethod
    def status(revision: int, compared: int, *generations: dict) -> dict:
        return {"revision": revision, "generations": list(generations),
                "last_comparison": {"generation": compared, "found": {"tables": [], "equal": True}}}

    def test_one_that_was_cancelled_before_it_was_seen_is_not_taken_for_the_one_before(self):
        done = self.rebuild(self.status(1, 6), self.status(3, 6))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("as generation 7", done.stderr)
        self.assertIn("the rebuild was cancelled", done.stderr)
        self.assertEqual(len(self.posted), 1)

    def test_during_somebodys_comparison_it_only_watches_and_says_that_the_wish_was_another(self):
        building = {"generation": 7, "state": "building", "phase": "filling", "events": 3, "of_events": 9}
        done = self.rebuild(self.status(2, 6, building), self.status(2, 6, building), self.status(3, 7))
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("somebody else asked for a comparison only", done.stderr)
        self.assertEqual(self.posted, [])


if LOG == "kafka":  # what models cost is the same there
    def load_tests(loader, *_) -> unittest.TestSuite:
        return loader.loadTestsFromTestCase(ReadModels)


if __name__ == "__main__":
    unittest.main()
