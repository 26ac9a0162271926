"""replay: a projection as of a moment lies beside the live one, and is the fold of the events up to then."""
import json
import signal
import subprocess
import unittest

import fold
from fold.tables import PROJECTIONS, microseconds
from fold.views import VIEW_KEYS
from harness import BUILD, WithDatabase, clean_environment
from people import lines_of


class Replay(WithDatabase):
    def onboard(self, person: int, lines: int):
        session = self.server.begin()
        for line in list(lines_of(person).values())[:lines]:
            session.told(line)
        return session

    def history(self) -> tuple[str, list[str]]:
        """A time in the middle, and all events."""
        early = [self.onboard(n, 1 + n % 6) for n in range(8)]
        middle = json.loads(self.server.ctl("events", "stats", "--json").stdout)["last_time"]
        for session in early[:3]:
            session.told("Sorry, my name is Ada Lovelace")
        for n in range(20, 26):
            self.onboard(n, 6)
        fold.assert_follows(self.server, self.database.url)
        return middle, self.server.ctl("events", "export", "--open").stdout.splitlines()

    def replay(self, projection: str, *options: str, schema: str = "", check: bool = True):
        return self.server.ctl("replay", "--projection", projection, "--into", schema or f"as_of_{projection}", *options, check=check)

    def assert_is(self, lines: list[str], until: str, projection: str, schema: str = "") -> None:
        """The projection's tables, and the views that show nothing else."""
        then = microseconds(until)
        expected = fold.fold_of([line for line in lines if microseconds(json.loads(line)["time"]) <= then])
        names = [*PROJECTIONS[projection], *(sorted(VIEW_KEYS.keys() - {"funnel"}) if projection == "sessions" else ())]
        live = fold.Live(self.database.url, schema or f"as_of_{projection}", names)
        self.assertEqual(fold.differences(expected, live, names), [])
        self.assertTrue(any(expected[table] for table in PROJECTIONS[projection]) or projection == "usage")

    def test_every_projection_is_what_it_was_and_the_live_tables_do_not_notice(self):
        middle, lines = self.history()
        for projection in PROJECTIONS:
            self.replay(projection, "--until", middle)
            self.assert_is(lines, middle, projection)
        self.onboard(40, 6)
        fold.assert_follows(self.server, self.database.url)
        self.assert_is(lines, middle, "sessions")

        self.replay("sessions", "--until", middle)  # once more: what came since does not count
        self.assert_is(lines, middle, "sessions")
        end = json.loads(lines[-1])["time"]
        self.assertEqual(self.replay("sessions", "--until", end, check=False).returncode, 2)
        self.replay("sessions", "--until", end, schema="at_the_end")
        self.assert_is(lines, end, "sessions", "at_the_end")
        self.database.query("DROP SCHEMA as_of_sessions CASCADE")
        self.replay("sessions", "--until", end)
        self.assert_is(lines, end, "sessions")

    def test_goes_on_where_it_was_killed(self):
        middle, lines = self.history()
        for point in ("projection.before_commit", "projection.after_commit"):
            done = subprocess.run([str(BUILD / "onboardctl"), "--data-dir", str(self.server.data), "replay", "--projection", "conversation", "--into", "as_of_conversation",
                                   "--until", middle], capture_output=True, env=clean_environment() | {"ONBOARD_FAULT": f"{point}=crash"})
            self.assertEqual(done.returncode, -signal.SIGKILL, done.stderr)
        self.replay("conversation", "--until", middle)
        self.assert_is(lines, middle, "conversation")

    def test_refuses_what_cannot_be(self):
        self.onboard(1, 1)
        fold.assert_follows(self.server, self.database.url)
        self.database.query("CREATE SCHEMA mine; CREATE TABLE mine.token_usage (a text)")
        now = "2030-01-01T00:00:00Z"
        for options, code in ((("usage", "--until", "soon"), 2), (("nonsense", "--until", now), 3)):
            self.assertEqual(self.replay(*options, check=False).returncode, code)
        for schema in ("public", "pg_catalog", "projection_usage_2", "mine"):
            self.assertEqual(self.replay("usage", "--until", now, schema=schema, check=False).returncode, 2, schema)
        self.assertEqual(self.database.query("SELECT count(*) FROM information_schema.columns WHERE table_schema = 'mine'"), "1")


if __name__ == "__main__":
    unittest.main()
