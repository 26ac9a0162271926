"""backup, restore, doctor: an installation that is lost and comes back, and one that says what is wrong with it."""
import contextlib
import fcntl
import json
import pathlib
import shutil
import subprocess
import tempfile
import threading
import unittest

import fold
from harness import BUILD, PATIENCE, Database, Server, WithDatabase, clean_environment, postgres_program, wait_until
from people import lines_of


def onboard(server: Server, person: int, lines: int = 6):
    session = server.begin()
    for line in list(lines_of(person).values())[:lines]:
        session.told(line)
    return session


class Moved:
    """Another data folder under the same addresses."""

    @staticmethod
    def of(server: Server, postgres_url: str = "") -> Server:
        new = Server(postgres_url=postgres_url)
        new.settings = server.settings | ({"postgres.url": postgres_url} if postgres_url else {})
        return new


@contextlib.contextmanager
def migrations_held(database: Database):
    """Whoever makes tables waits meanwhile."""
    holder = subprocess.Popen([postgres_program("psql"), database.url, "-qAtX"], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        holder.stdin.write("SELECT 'held' FROM pg_advisory_lock(31361498927887218);\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "held\n"
        yield
    finally:
        holder.communicate()


class BackupAndRestore(WithDatabase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-backup."))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.backup = self.folder / "backup"

    def restored(self, *options: str, database: str = "") -> Server:
        new = Moved.of(self.server, database)
        self.addCleanup(new.close)
        new.ctl("--set", f"postgres.url={new.settings['postgres.url']}", "restore", *options, str(self.backup))
        return new

    def test_a_lost_server_comes_back_with_all_that_was_acknowledged_before_the_backup_and_goes_on_as_a_new_log(self):
        before = [onboard(self.server, n, 1 + n % 6) for n in range(8)]
        states = [session.state() for session in before]
        stop, after = threading.Event(), []
        talking = threading.Thread(target=lambda: [after.append(onboard(self.server, n)) for n in range(100, 1000) if not stop.is_set()])
        talking.start()
        try:
            wait_until(lambda: len(after) >= 1, "somebody talks")
            self.server.ctl("backup", str(self.backup))
            seen = len(after)
            wait_until(lambda: len(after) >= seen + 3, "the talk went on")
        finally:
            stop.set()
            talking.join()
        fold.assert_follows(self.server, self.database.url)
        cursor = json.loads([line for line in self.server.ctl("events", "export").stdout.splitlines() if '"cursor"' in line][-1])["cursor"]
        lost = after[-1]
        self.server.kill()

        refused = Moved.of(self.server)
        self.addCleanup(refused.close)
        told = refused.ctl("--set", f"postgres.url={self.database.url}", "restore", str(self.backup), check=False)
        self.assertEqual((told.returncode, refused.data.exists()), (2, False), told.stderr)
        self.assertIn("--reset-read-models", told.stderr)
        new = self.restored("--reset-read-models")
        self.assertEqual(new.ctl("events", "verify").returncode, 0)
        new.start()
        for session, state in zip(before, states):
            session.server = new
            self.assertEqual(session.state(), state, "what was acknowledged before the back-up is there, and its token is good")
        lost.server = new
        self.assertEqual(new.request("GET", lost.path, headers=lost.authorization).status, 404, "what came after it is gone")
        before[0].told("ben@example.com")
        onboard(new, 77)
        fold.assert_follows(new, self.database.url)
        self.assertEqual(new.ctl("events", "export", "--after", cursor, check=False).returncode, 2, "a cursor of the lost log must fit nowhere")
        ids = {json.loads(line)["source"] for line in new.ctl("events", "export").stdout.splitlines()}
        self.assertEqual(len(ids), 1)
        self.assertNotIn(json.loads((self.backup / "manifest.json").read_text())["log_id"], ids.pop())
        self.assertEqual(new.ctl("doctor", check=False).returncode, 0)

    def somebody_is_skipped(self) -> str:
        fold.assert_follows(self.server, self.database.url)
        self.database.query("ALTER TABLE onboarding_sessions ADD CONSTRAINT poison CHECK (user_id <> 'poison@example.com')")
        self.server.begin(user_id="poison@example.com")
        fold.assert_follows(self.server, self.database.url)
        key, position = self.database.query("SELECT parked_key, partition || ':' || sequence FROM projection_parked_keys").split("|")
        self.server.ctl("projections", "skip", "sessions", key, position, "--reason", "a test")
        return position

    def lost_after_a_backup(self) -> tuple[Database, Server]:
        """An empty database and a server without a data folder, to restore into."""
        self.server.ctl("backup", str(self.backup))
        self.server.kill()
        fresh = Database()
        self.addCleanup(fresh.close)
        new = Moved.of(self.server, fresh.url)
        self.addCleanup(new.close)
        return fresh, new

    def test_what_was_skipped_stays_skipped_what_was_paused_stays_paused_and_the_record_goes_on(self):
        position = self.somebody_is_skipped()
        self.server.ctl("projections", "pause", "usage", "--reason", "a test")
        self.database.query("INSERT INTO projection_skipped_events VALUES ('sessions', 0, 1000000)")  # later than the back-up
        self.server.ctl("backup", str(self.backup))
        record = "SELECT string_agg(concat_ws(' ', at, projection, action, actor, reason, detail), ',' ORDER BY id) FROM projection_audit"
        before = self.database.query(record)
        self.assertIn("skip", before)
        self.server.kill()
        new = self.restored("--reset-read-models")
        new.start()
        wait_until(lambda: "paused by" in new.ctl("projections", "list").stdout, "it is paused, as it was")
        self.assertEqual(self.database.query(record), before)
        self.assertEqual(self.database.query("SELECT partition || ':' || sequence FROM projection_skipped_events"), position)
        new.ctl("projections", "resume", "usage")
        fold.assert_follows(new, self.database.url)
        self.assertEqual(self.database.query("SELECT count(*) FROM onboarding_sessions WHERE user_id IS NOT NULL"), "0")

    def test_what_was_skipped_is_in_the_database_before_a_server_can_start_on_the_log_also_when_the_restore_is_killed(self):
        position = self.somebody_is_skipped()
        fresh, new = self.lost_after_a_backup()

        def refuses_to_start(says: str) -> None:
            new.launch()
            self.assertEqual(new.process.wait(PATIENCE), 1)
            self.assertIn(says, new.log())
            self.assertFalse((new.data / "log/events.db").exists() or (new.data / "keys.db").exists())
        with migrations_held(fresh):
            patient = fresh.url + ("&" if "?" in fresh.url else "?") + "options=-c%20lock_timeout%3D0%20-c%20statement_timeout%3D0"
            command = [str(BUILD / "onboardctl"), "--data-dir", str(new.data), "--set", f"postgres.url={patient}", "restore", str(self.backup)]
            killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment())
            self.addCleanup(killed.wait)
            self.addCleanup(killed.kill)
            wait_until(lambda: fresh.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = "
                                           "(SELECT oid FROM pg_database WHERE datname = current_database())") != "0", "the restore is at the database")
            refuses_to_start("restore.part")
            (new.data / "restore.part").rename(new.data / "put aside")
            refuses_to_start("another process writes the event log")
            (new.data / "put aside").rename(new.data / "restore.part")
            killed.kill()
            killed.wait()
            refuses_to_start("restore.part")
        # The same command again.
        new.ctl("--set", f"postgres.url={fresh.url}", "restore", str(self.backup))
        self.assertEqual(fresh.query("SELECT partition || ':' || sequence FROM projection_skipped_events"), position)
        new.start()
        fold.assert_follows(new, fresh.url)
        self.assertEqual(fresh.query("SELECT count(*) FROM onboarding_sessions WHERE user_id IS NOT NULL"), "0")

    def test_without_a_database_that_takes_what_was_skipped_nothing_is_restored_unless_told_so(self):
        self.somebody_is_skipped()
        fresh, new = self.lost_after_a_backup()

        def refuses(url: str, says: str) -> None:
            told = new.ctl("--set", f"postgres.url={url}", "restore", str(self.backup), check=False)
            self.assertEqual(told.returncode, 1, told.stderr)
            self.assertIn(says, told.stderr)
            self.assertFalse((new.data / "log/events.db").exists() or (new.data / "keys.db").exists() or (new.data / "restore.part").exists())
        refuses("postgresql:///none?host=/nowhere", "--set postgres.url=")
        self.database.query(f"ALTER DATABASE {fresh.name} SET default_transaction_read_only = on")
        refuses(fresh.url, "nothing was restored")
        (new.data / "log").mkdir(parents=True, exist_ok=True)
        with open(new.data / "log/events.db.lock", "w") as held:
            fcntl.lockf(held, fcntl.LOCK_EX)
            refuses(fresh.url, "another process writes the event log")
        told = new.ctl("--set", "postgres.url=", "restore", str(self.backup))
        self.assertIn("projections.json", told.stderr)
        self.assertTrue((new.data / "keys.db").exists())

    def test_a_move_to_another_machine_keeps_log_cursors_and_read_models(self):
        session = onboard(self.server, 1, 3)
        fold.assert_follows(self.server, self.database.url)
        lines = self.server.ctl("events", "export").stdout.splitlines()
        cursor = json.loads([line for line in lines if '"cursor"' in line][-1])["cursor"]
        self.assertEqual(self.server.terminate(), 0)
        self.server.ctl("backup", str(self.backup))
        new = self.restored("--same-log")
        new.start()
        session.server = new
        session.told("I'm a nurse")
        rest = new.ctl("events", "export", "--after", cursor).stdout.splitlines()
        self.assertTrue(rest)
        self.assertEqual(len(rest) + len(lines), len(new.ctl("events", "export").stdout.splitlines()))
        fold.assert_follows(new, self.database.url)

    def test_secrets_that_lie_apart_are_backed_up_and_come_back_there(self):
        session = onboard(self.server, 1, 2)
        self.server.terminate()
        apart = self.folder / "secrets"
        apart.mkdir(mode=0o700)
        for name in ("master.key", "operator.key"):
            (self.server.data / name).rename(apart / name)
        self.server.settings["secrets.path"] = str(apart)
        self.server.start()
        self.server.ctl("backup", str(self.backup))
        self.server.terminate()
        shutil.rmtree(apart)
        for _ in ("they are gone", "they are there"):
            new = Moved.of(self.server)
            self.addCleanup(new.close)
            new.ctl("--set", f"secrets.path={apart}", "restore", "--same-log", str(self.backup))
            self.assertTrue((apart / "master.key").exists() and (apart / "operator.key").exists())
            self.assertFalse((new.data / "master.key").exists())
        (apart / "master.key").write_text("ab" * 32)
        other = Moved.of(self.server)
        self.addCleanup(other.close)
        told = other.ctl("--set", f"secrets.path={apart}", "restore", "--same-log", str(self.backup), check=False)
        self.assertEqual(told.returncode, 2, told.stderr)
        self.assertIn("another installation's", told.stderr)
        (apart / "master.key").write_bytes((self.backup / "secrets/master.key").read_bytes())
        new.start()
        session.server = new
        session.told("I'm a nurse")

    def test_what_was_written_after_the_backup_forbids_going_on_as_the_same_log(self):
        onboard(self.server, 1, 1)
        self.server.ctl("backup", str(self.backup))
        onboard(self.server, 2, 3)
        fold.assert_follows(self.server, self.database.url)
        self.server.terminate()
        new = Moved.of(self.server)
        self.addCleanup(new.close)
        told = new.ctl("--set", f"postgres.url={self.database.url}", "restore", "--same-log", str(self.backup), check=False)
        self.assertEqual(told.returncode, 2)
        self.assertIn("does not have", told.stderr)

    def test_nothing_is_overwritten_and_nothing_doubtful_is_restored(self):
        onboard(self.server, 1, 2)
        self.server.ctl("backup", "--without-secrets", str(self.backup))
        self.assertFalse((self.backup / "secrets").exists())
        self.assertEqual(subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=self.backup).returncode, 0)
        self.assertEqual(self.server.ctl("backup", str(self.backup), check=False).returncode, 2)
        self.assertEqual(self.server.ctl("restore", str(self.backup), check=False).returncode, 2)

        def refuses(*options: str, says: str, code: int, folder=None):
            new = Server()
            self.addCleanup(new.close)
            told = new.ctl("restore", *options, str(folder or self.backup), check=False)
            self.assertEqual(told.returncode, code, told.stderr)
            self.assertIn(says, told.stderr)
            self.assertFalse((new.data / "log").exists() or (new.data / "keys.db").exists())
        refuses(says="--secrets", code=2)
        stranger = Server()
        self.addCleanup(stranger.close)
        stranger.start()
        stranger.terminate()
        refuses("--secrets", str(stranger.data), says="another installation's", code=2)
        refuses(says="no whole back-up", code=3, folder=self.folder)
        running = self.server.ctl("restore", "--secrets", str(self.server.data), str(self.backup), check=False)
        self.assertEqual(running.returncode, 2)
        good = Server()
        self.addCleanup(good.close)
        good.ctl("restore", "--secrets", str(self.server.data), str(self.backup))
        again = good.ctl("restore", "--secrets", str(self.server.data), str(self.backup), check=False)
        self.assertEqual(again.returncode, 2)
        self.assertIn("overwrites nothing", again.stderr)
        for name in ("events.db", "keys.db", "manifest.json"):
            raw = bytearray((self.backup / name).read_bytes())
            raw[len(raw) // 2] ^= 1
            (self.backup / name).write_bytes(raw)
            refuses("--secrets", str(self.server.data), says=name, code=5)
            raw[len(raw) // 2] ^= 1
            (self.backup / name).write_bytes(raw)


class Doctor(WithDatabase):
    def look(self, *options: str) -> tuple[int, dict[str, dict]]:
        done = self.server.ctl("--set", f"postgres.url={self.database.url}", *options, "doctor", "--json", check=False)
        told = json.loads(done.stdout)
        return done.returncode, {check["part"]: check for check in told["checks"]}

    def fails(self, part: str, says: str, *options: str) -> None:
        code, checks = self.look(*options)
        self.assertEqual((code, checks[part]["status"]), (1, "fail"), checks)
        self.assertIn(says, checks[part]["says"])
        self.assertTrue(checks[part]["to_do"])

    def test_says_what_is_wrong_and_what_to_do(self):
        onboard(self.server, 1)
        fold.assert_follows(self.server, self.database.url)
        done = self.server.ctl("doctor", "--json", check=False)
        checks = {check["part"]: check for check in json.loads(done.stdout)["checks"]}
        for part in ("configuration", "data folder", "log", "clock", "keys", "PostgreSQL", "migrations", "read models", "server", "projections"):
            self.assertEqual(checks[part]["status"], "ok", checks[part])
        self.assertIn("ready", self.server.ctl("doctor", check=False).stdout)
        self.server.ctl("projections", "pause", "usage", "--reason", "a test")
        wait_until(lambda: "paused: usage" in self.server.ctl("doctor", check=False).stdout, "a paused projection is told")
        data = self.server.data
        (data / "operator.key").chmod(0o644)
        self.fails("data folder", "operator.key can be read by others")
        (data / "operator.key").chmod(0o600)
        self.server.terminate()
        self.fails("PostgreSQL", "", "--set", "postgres.url=postgresql:///none?host=/nowhere")
        self.fails("ports", "http.admin_listen", "--set", "http.admin_listen=192.0.2.1:80")
        other = Database()
        self.addCleanup(other.close)
        stranger = Server(postgres_url=other.url)
        self.addCleanup(stranger.close)
        stranger.start()
        onboard(stranger, 2, 1)
        fold.assert_follows(stranger, other.url)
        stranger.kill()
        self.fails("read models", "belong to log", "--set", f"postgres.url={other.url}")
        self.database.query("UPDATE projection_checkpoints SET sequence = 1000000 WHERE projection = 'usage' AND partition = 3")
        self.fails("read models", "beyond the end")
        self.database.query("UPDATE schema_migrations SET checksum = 'x' WHERE number = 2")
        self.fails("migrations", "was edited")
        head = data / "log/events.db.head"
        head.rename(data / "head")
        self.fails("log", "head file")
        (data / "head").rename(head)
        (data / "master.key").rename(data / "lost")
        self.fails("keys", "master.key is missing")
        (data / "lost").rename(data / "master.key")
        (data / "onboard.toml").write_text("[http]\nlisten = 7\nnonsense = 1\n")
        (data / "onboard.toml").chmod(0o600)
        code, checks = self.look()
        self.assertEqual((code, checks["configuration"]["status"]), (1, "fail"))


if __name__ == "__main__":
    unittest.main()
