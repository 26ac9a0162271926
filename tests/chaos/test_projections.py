"""Projections in processes of their own, killed and taken over from; rebuilds killed at each of their steps; and the commands
that operators use for it. Afterwards the live tables are the fold of the log, and those that a rebuild makes."""
import contextlib
import http.client
import json
import pathlib
import signal
import subprocess
import sys
import types
import unittest
import uuid

import fold
from harness import LOG, ROOT, Database, Server, clean_environment, kafka_of_this_run, wait_until

if LOG == "kafka":
    sys.path[:0] = [str(ROOT / "tests/integration/kafka"), str(ROOT / "tests/integration/model")]
    from cluster import PARTITIONS, Cluster, Load

NAMES = ["profile", "sessions", "conversation", "usage", "flows"]
STEPS = [  # the first change is the operator's, the second lets the tables change places
    "projection.before_change=crash@1", "projection.after_change=crash@1", "projection.in_swap=crash@1", "projection.after_change=crash@2",
    "projection.before_commit=crash@1", "projection.after_commit=crash@1"]
SHARES = "SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '') FROM (SELECT count(*) AS n FROM projection_leases GROUP BY worker) AS w"


def delete(*files: pathlib.Path) -> None:
    """SQLite's files, under whoever has them open; but not the lock beside them, of who writes them."""
    for file in files:
        for part in file.parent.glob(file.name + "*"):
            if part.suffix != ".lock":
                part.unlink(missing_ok=True)


class RoleServer(Server):
    """A server that leaves the projections to processes beside it."""

    def command(self) -> list[str]:
        return super().command() + ["--roles", "api,sessions,jobs"]

    def beside(self, environment: dict[str, str] | None = None) -> subprocess.Popen:
        command = [part if part != "api,sessions,jobs" else "projections" for part in self.command()]
        with open(self.folder / "beside.log", "ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=clean_environment() | (environment or {}))


class Following(unittest.TestCase):
    """Whose read models are looked at."""

    def setUp(self) -> None:
        self.database = Database()
        self.addCleanup(self.database.close)

    def serve(self, kind=Server) -> Server:
        server = kind(postgres_url=self.database.url)
        self.addCleanup(server.close)
        return server.start()

    def live(self, server: Server, name: str) -> int:
        with contextlib.suppress(OSError, http.client.HTTPException):
            for projection in server.request("GET", "/api/admin/projections", admin=True).json().get("projections", []):
                if projection["name"] == name:
                    return projection["generation"]
        return 0

    def talk(self, server: Server, people: int) -> list:
        sessions = [server.begin() for _ in range(people)]
        for session in sessions:
            session.told("My name is Ada Lovelace")
            session.told("ada@analytical.example")
        return sessions

    def equal(self, server: Server) -> None:
        fold.assert_follows(server, self.database.url)
        for name in NAMES:
            done = server.ctl("projections", "rebuild", name, "--compare-only", "--json", check=False)
            self.assertEqual(done.returncode, 0, f"{name}: {done.stdout} {done.stderr}")
            self.assertTrue(json.loads(done.stdout)["last_comparison"]["found"]["equal"])


class Processes(Following):
    def test_processes_share_the_partitions_and_take_over_from_a_killed_one(self):
        server = self.serve(RoleServer)
        one, other = server.beside(), server.beside()
        self.addCleanup(lambda: [p.kill() for p in (one, other)])
        wait_until(lambda: self.database.query("SELECT to_regclass('projection_leases') IS NOT NULL") == "t", "the tables are there")
        wait_until(lambda: self.database.query(SHARES) == "12 12", "both have their half")
        for session in self.talk(server, 6):
            self.assertEqual(session.profile(session.state()["position"]).status, 200)
        one.kill()
        one.wait()
        for session in self.talk(server, 6):
            answer = wait_until(lambda: (a := session.profile(session.state()["position"])).status == 200 and a, "the other one takes over")
            self.assertIn("Ada Lovelace", answer.body.decode())
        wait_until(lambda: self.database.query(SHARES) == "24", "all are the other one's")  # also the share nobody wrote to
        self.equal(server)
        other.terminate()
        self.assertEqual(other.wait(60), 0)
        self.assertEqual(self.database.query("SELECT count(*) FROM projection_leases"), "0")


if LOG == "kafka":
    class Copies(Following):
        """What a process beside the server reads is the server's copy of the log and of the keys."""

        def test_that_are_deleted_and_written_again_are_gone_on_with(self):
            server = self.serve(RoleServer)
            beside = server.beside()
            self.addCleanup(beside.kill)
            for session in self.talk(server, 3):
                wait_until(lambda: session.profile(session.state()["position"]).status == 200, "it follows")
            for files in ([server.data / "log/kafka-cache.db"], [server.data / "keys.db"]):
                delete(*files)
                wait_until(lambda: all(file.exists() for file in files), "the server has written it again")
                for session in self.talk(server, 3):
                    answer = wait_until(lambda: (a := session.profile(session.state()["position"])).status == 200 and a, "it goes on")
                    self.assertIn("Ada Lovelace", answer.body.decode())
            self.assertIsNone(beside.poll())
            self.equal(server)

    class SeveralServers(unittest.TestCase):
        """Each has a copy of its own of the whole log, some further than others, and projects its share."""

        def test_share_the_partitions_whoever_is_killed_frozen_or_begins_anew(self):
            database = Database()
            self.addCleanup(database.close)
            cluster = Cluster(types.SimpleNamespace(brokers=kafka_of_this_run()), f"several-{uuid.uuid4().hex[:12]}")
            self.addCleanup(cluster.close)
            for server in cluster.servers:
                server.settings["postgres.url"] = database.url
            killed, frozen, other = cluster.start().servers
            thirds, halves = (" ".join([str(PARTITIONS // n)] * n) for n in (3, 2))

            def shared(as_wanted: str) -> None:
                wait_until(lambda: database.query(SHARES) == as_wanted, f"the read models are shared as {as_wanted}")
            wait_until(lambda: database.query("SELECT to_regclass('projection_leases') IS NOT NULL") == "t", "the tables are there")
            shared(thirds)
            with Load(cluster.servers) as load:
                killed.kill()
                shared(halves)
                load.progress(40)
                delete(killed.data / "log/kafka-cache.db", killed.data / "keys.db")
                killed.start()  # it reads from Kafka what the others have projected long ago
                shared(thirds)
                load.progress(40)
                frozen.process.send_signal(signal.SIGSTOP)
                shared(halves)
                load.progress(40)
                frozen.process.send_signal(signal.SIGCONT)
                shared(thirds)
                delete(other.data / "log/kafka-cache.db")
                load.progress(40)
            for server in cluster.servers:  # by each one's copy
                fold.assert_follows(server, database.url)
            frozen.ctl("projections", "rebuild", "sessions")
            self.assertEqual(database.query("SELECT count(*) FROM projection_parked_keys"), "0")
            fold.assert_follows(other, database.url)

else:  # what comes to the same on any log
    class Projections(Following):
        def rebuild(self, server: Server) -> None:
            """As an operator does, whatever becomes of the server: one that is being killed lets go of its connections first."""
            if server.ctl("projections", "rebuild", "sessions", check=False).returncode != 0:
                with contextlib.suppress(AssertionError):
                    wait_until(lambda: server.process.poll() is not None, "its end", patience=3)

        def test_a_rebuild_that_is_killed_at_any_step_goes_on_and_leaves_the_same_tables(self):
            server = self.serve()
            self.talk(server, 5)
            crashed = []
            for step in STEPS:
                with self.subTest(step=step):
                    before = wait_until(lambda: self.live(server, "sessions"), "the projections are known")
                    server.kill()
                    server.launch({"ONBOARD_FAULT": step})
                    wait_until(lambda: server.process.poll() is not None or self.live(server, "sessions"), "the projections are known")
                    for _ in range(2):  # the second one where the first had not begun
                        if server.process.poll() is None and self.live(server, "sessions") in (0, before):
                            self.rebuild(server)
                    if server.process.poll() is None:
                        server.kill()
                    else:
                        crashed.append(step)
                    server.start()
                    wait_until(lambda: self.live(server, "sessions"), "the projections are known")
                    if self.live(server, "sessions") == before:
                        server.ctl("projections", "rebuild", "sessions")
                    self.assertGreater(self.live(server, "sessions"), before)
                    self.talk(server, 1)
            self.assertEqual(crashed, STEPS)
            self.equal(server)
            self.assertEqual(self.database.query("SELECT count(*) FROM projection_generations WHERE state = 'live'"), str(len(NAMES)))

        def test_an_operator_sees_and_does_it_all_at_a_terminal(self):
            server = self.serve()
            session = self.talk(server, 3)[0]
            self.assertEqual(session.profile(session.state()["position"]).status, 200)
            wait_until(lambda: self.live(server, "usage"), "the projections are known")
            self.assertIn("running", server.ctl("projections", "list").stdout)
            self.assertIn("is live", server.ctl("projections", "rebuild", "usage").stderr)
            self.assertIn("it waits and follows", server.ctl("projections", "rebuild", "profile", "--no-swap").stderr)
            self.assertIn("is live", server.ctl("projections", "rebuild", "profile", "--yes").stderr)
            server.ctl("projections", "rollback", "usage", "--reason", "only a test")
            self.assertEqual(self.database.query("SELECT reason FROM projection_audit WHERE action = 'rollback'"), "only a test")
            server.ctl("projections", "pause", "usage")
            wait_until(lambda: "paused" in server.ctl("projections", "list").stdout, "it is paused")
            for wrong, code in (("pause", 1), ("rebuild", 1)):
                self.assertEqual(server.ctl("projections", wrong, "usage", check=False).returncode, code)
            server.ctl("projections", "resume", "usage")
            self.assertEqual(server.ctl("projections", "reset", "usage", check=False).returncode, 2)
            self.assertEqual(server.ctl("projections", "pause", "nothing", check=False).returncode, 3)
            self.assertIn("nothing is parked", server.ctl("projections", "parked", "usage").stderr)
            self.assertEqual(server.ctl("projections", "retry", "usage", "usr_nobody", check=False).returncode, 3)
            self.assertEqual(server.request("POST", "/api/admin/projections/usage/pause", {}, admin=True).status, 202, "without a revision: as it is now")
            server.ctl("projections", "resume", "usage")
            self.assertEqual(server.request("POST", "/api/admin/projections/usage/pause", {"revision": 1}, admin=True).status, 409)

            # As of then: the view before the second half was said.
            until = self.database.query("SELECT to_char(max(updated_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM onboarding_sessions")
            before = self.database.query("SELECT sum(total_messages_count) FROM onboarding_sessions")
            position = session.told("It's called Analytical Engines") and session.state()["position"]
            self.assertEqual(session.profile(position).status, 200)
            self.assertEqual(server.ctl("replay", "--projection", "sessions", "--into", "public", "--until", until, check=False).returncode, 2)
            server.ctl("replay", "--projection", "sessions", "--into", "as_of", "--until", until)
            self.assertEqual(self.database.query("SELECT sum(total_messages_count) FROM as_of.onboarding_sessions"), before)
            self.assertNotEqual(self.database.query("SELECT sum(total_messages_count) FROM onboarding_sessions"), before)
            server.ctl("replay", "--projection", "sessions", "--into", "as_of", "--until", until)
            self.equal(server)


if __name__ == "__main__":
    unittest.main()
