"""An installation moves from the embedded log to Kafka and back, by the operator's own command: cut off on the way, it goes on; events,
keys, sessions and read models are the same afterwards."""
import json
import pathlib
import subprocess
import sys
import unittest

import fold
from harness import BUILD, Database, Server, clean_environment

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from kafka_case import BrokerCase  # noqa: E402

TO_KAFKA = ("log", "copy", "--from", "sqlite", "--to", "kafka")
TO_SQLITE = ("log", "copy", "--from", "kafka", "--to", "sqlite")


class LogCopy(BrokerCase):
    def setUp(self):
        self.database = Database()
        self.addCleanup(self.database.close)
        self.kafka = {"log.kind": "kafka", "log.brokers": self.broker.brokers, "log.topic": self.id().rsplit(".", 1)[1][:60]}
        self.server = Server(postgres_url=self.database.url, settings={"log.partitions": 6})
        self.addCleanup(self.server.close)

    def copy(self, *command: str, fault: str = "", server: Server | None = None) -> subprocess.CompletedProcess:
        settings = [part for key, value in self.kafka.items() if key != "log.kind" for part in ("--set", f"{key}={value}")]
        return subprocess.run([str(BUILD / "onboardctl"), "--data-dir", str((server or self.server).data), "--set", "log.partitions=6", *settings, *command],
                              text=True, capture_output=True, env=clean_environment() | {"ONBOARD_FAULT": fault}, timeout=120)

    def use(self, **settings) -> None:
        for key in self.kafka:
            self.server.settings.pop(key, None)
        self.server.settings |= {key.replace("_", ".", 1): value for key, value in settings.items()}

    @staticmethod
    def without_cursors(export: str) -> list[str]:
        return sorted(json.dumps({name: value for name, value in json.loads(line).items() if name != "cursor"}) for line in export.splitlines())

    def events(self) -> list[str]:
        return self.without_cursors(self.server.ctl("events", "export", "--open").stdout)

    def stop(self) -> list[str]:
        """What the log held when the server had stopped."""
        self.assertEqual(self.server.terminate(), 0)
        settings = [part for key, value in self.server.settings.items() for part in ("--set", f"{key}={value}")]
        done = subprocess.run([str(BUILD / "onboardctl"), "--data-dir", str(self.server.data), *settings, "events", "export", "--open"],
                              text=True, capture_output=True, env=clean_environment(), timeout=60, check=True)
        return self.without_cursors(done.stdout)

    def copy_through_crashes(self, command: tuple[str, ...], point: str) -> subprocess.CompletedProcess:
        """Killed at one pass of the point after the other, until it gets through; what was copied before is gone on with."""
        said = ""
        for n in range(1, 60):
            done = self.copy(*command, fault=f"{point}=crash@{n}")
            said += done.stderr
            if done.returncode == 0:
                self.assertGreater(n, 1)  # how many passes there are depends on how the records share commits
                self.assertIn("going on with a copy that has", said)
                return done
            self.assertEqual(done.returncode, -9, done.stderr)
        raise AssertionError("it never gets through")

    def test_an_installation_moves_to_kafka_and_back_and_every_session_goes_on(self):
        server = self.server.start()
        session, gone, other = server.begin(), server.begin(user_id="gone@example.com"), server.begin()
        session.told("My name is Ada Lovelace")
        gone.told("My name is Grace Hopper")
        other.told("I'm Ben Brandt, ben@example.com")
        self.assertEqual(server.request("DELETE", f"/api/users/{gone.user_id}", headers=gone.authorization).status, 200)
        fold.assert_follows(server, self.database.url)
        refused = self.copy(*TO_KAFKA)
        self.assertEqual(refused.returncode, 2, refused.stderr)
        self.assertIn("a server runs in", refused.stderr)
        before = self.stop()

        done = self.copy_through_crashes(TO_KAFKA, "kafka.after_commit_before_ack")
        self.assertIn(f"{len(before)} events in 6 partitions copied and compared", done.stdout)
        self.assertEqual(self.copy(*TO_KAFKA).returncode, 0, "once more changes nothing")

        self.use()
        with self.assertRaisesRegex(AssertionError, "keys.db is a copy of the keys in Kafka"):
            server.start()
        server.settings |= self.kafka
        server.start()
        self.assertEqual(self.events(), before)
        self.assertEqual([line["text"] for line in session.conversation() if line["role"] == "user"], ["My name is Ada Lovelace"])
        session.told("I am 36 years old")
        other.told("I work at Keller Labs")
        self.assertEqual(server.request("GET", gone.path, headers=gone.authorization).status, 404)
        server.begin().told("I'm Cleo Cole")
        fold.assert_follows(server, self.database.url)
        in_kafka = self.stop()
        self.assertEqual(sorted(set(before) - set(in_kafka)), [])
        gone_on = self.copy(*TO_KAFKA)
        self.assertEqual(gone_on.returncode, 2, gone_on.stderr)
        self.assertIn("has gone on by itself", gone_on.stderr)

        refused = self.copy(*TO_SQLITE)
        self.assertEqual(refused.returncode, 2)
        self.assertIn("a copy overwrites nothing", refused.stderr)
        for name in ("events.db", "events.db.head"):
            (server.data / "log" / name).rename(server.data / "log" / f"{name}.old")
        self.assertEqual(self.copy(*TO_SQLITE, fault="log.before_commit=crash@1").returncode, -9)
        refused = self.copy(*TO_SQLITE)
        self.assertEqual(refused.returncode, 2, refused.stderr)
        self.assertIn("--servers-are-stopped", refused.stderr)
        self.copy_through_crashes((*TO_SQLITE, "--servers-are-stopped"), "log.after_commit_before_head")
        self.use()
        server.start()
        self.assertEqual(self.events(), in_kafka)
        session.told("ada@example.org")
        self.assertEqual(server.request("GET", gone.path, headers=gone.authorization).status, 404)
        fold.assert_follows(server, self.database.url)
        self.assertTrue(json.loads(server.ctl("events", "verify", "--json").stdout)["good"])

    def test_a_target_that_holds_another_log_is_refused_and_neither_is_changed(self):
        self.server.start().begin().told("My name is Ada Lovelace")
        mine = self.stop()
        done = self.copy(*TO_KAFKA)
        self.assertEqual(done.returncode, 0, done.stderr)
        other = Server(settings={"log.partitions": 6})
        self.addCleanup(other.close)
        other.start().begin().told("My name is Grace Hopper")
        self.assertEqual(other.terminate(), 0)
        refused = self.copy(*TO_KAFKA, server=other)
        self.assertEqual(refused.returncode, 2, refused.stderr)
        self.assertIn("the target holds another log", refused.stderr)
        other.start()
        self.server.settings |= self.kafka
        self.server.start()
        self.assertEqual(self.events(), mine)

    def test_wrong_uses_say_what_to_do(self):
        for command, says in ((("log", "copy", "--from", "kafka", "--to", "kafka"), "one is sqlite, the other kafka"), (("log", "copy", "--from", "sqlite"), "--to is required"),
                              (TO_KAFKA, "master.key is missing")):
            done = self.copy(*command)
            self.assertIn(says, done.stderr + done.stdout)
            self.assertIn(done.returncode, (2, 3))


if __name__ == "__main__":
    unittest.main()
