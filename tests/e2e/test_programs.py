"""The two programs and the scripts, as a person at a terminal uses them."""
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import sqlite3
import stat
import subprocess
import tempfile
import threading
import tomllib
import unittest

from harness import BUILD, PATIENCE, ROOT, Server, Session, clean_environment, free_port, wait_until


class Onboardctl(unittest.TestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.addCleanup(self.server.close)
        self.server.start()

    def test_chat_holds_a_conversation_and_resumes_it(self):
        said = self.server.ctl("chat", text="My name is Ada Lovelace\nada@analytical.example\n")
        self.assertIn("+ full_name: Ada Lovelace", said.stdout)
        self.assertIn("+ email: ada@analytical.example", said.stdout)
        again = self.server.ctl("chat", "--resume", text="I work at Analytical Engines Ltd\n")
        self.assertIn("> My name is Ada Lovelace", again.stdout)
        self.assertIn("+ company:", again.stdout)
        # More than a page of lines, and a reply that was lost on its way: the message is sent again, its answer shown once.
        saved = json.loads((self.server.data / "chat.json").read_text())
        session = Session(self.server, saved | {"user_id": ""})
        for n in range(60):
            session.told(f"we are {n + 2} people", key=f"key-{n}")
        reply = session.conversation()[-1]["text"]
        (self.server.data / "chat.json").write_text(json.dumps(saved | {"pending_key": "key-59", "pending_text": "we are 61 people"}))
        shown = self.server.ctl("chat", "--resume").stdout.splitlines()
        self.assertTrue("\n".join(shown).endswith("> we are 61 people\n" + reply), shown[-5:])
        self.assertEqual(stat.S_IMODE((self.server.data / "chat.json").stat().st_mode), 0o600)

    def test_a_person_is_exported_and_forgotten(self):
        person = "ann b/%?@example.org"
        session = self.server.begin(user_id=person)
        session.told("My name is Ada Lovelace")
        shown = json.loads(self.server.ctl("user", "export", person).stdout)
        self.assertEqual(shown["sessions"][0]["fields"]["full_name"], "Ada Lovelace")
        file = self.server.data / "ann.json"
        self.assertIn(str(file), self.server.ctl("user", "export", person, "--output", str(file)).stderr)
        self.assertEqual(json.loads(file.read_text())["sessions"], shown["sessions"])
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        self.assertEqual(self.server.ctl("user", "erase", person, check=False).returncode, 2)
        self.assertEqual(self.server.ctl("user", "export", person).returncode, 0, "nothing was done")
        self.assertIn("1 sessions", self.server.ctl("user", "erase", person, "--yes").stdout)
        for what in (["export", person], ["erase", person, "--yes"], ["export", person, "--output", str(self.server.data / "no.json")]):
            self.assertEqual(self.server.ctl("user", *what, check=False).returncode, 3)
        self.assertFalse(list(self.server.data.glob("no.json*")))
        self.server.terminate()
        self.assertEqual(self.server.ctl("user", "export", person, check=False).returncode, 4)

    def test_chat_survives_a_kill_between_and_under_its_messages(self):
        chat = subprocess.Popen([str(BUILD / "onboardctl"), "--data-dir", str(self.server.data), "chat", "--json"], text=True, bufsize=1,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment())
        self.addCleanup(chat.kill)
        session_id = json.loads(chat.stdout.readline())["session_id"]
        messages = ["My name is Ada Lovelace", "ada@analytical.example", "I work at Analytical Engines Ltd", "I'm a mathematician"]
        for message in messages:
            self.server.kill()
            chat.stdin.write(message + "\n")
            chat.stdin.flush()
            self.server.start()
            self.assertFalse(json.loads(chat.stdout.readline())["error"])
        chat.stdin.close()
        self.assertEqual(chat.wait(PATIENCE), 0)
        shown = json.loads(self.server.ctl("session", "show", session_id, "--json").stdout)
        self.assertEqual(shown["turns"], len(messages), "a repeat must not be a message")
        self.assertEqual(shown["fields"]["full_name"], "Ada Lovelace")
        chat.stdout.close()
        chat.stderr.close()

    def test_events_are_read_beside_the_server_and_hidden_unless_asked_for(self):
        session = self.server.begin()
        session.told("My name is Ada Lovelace")
        lines = [json.loads(line) for line in self.server.ctl("events", "tail", "--json", "--session", session.id).stdout.splitlines()]
        self.assertIn("SessionStarted", lines[0]["type"])
        self.assertTrue(all(line["specversion"] == "1.0" for line in lines))
        self.assertTrue(any("FieldExtracted" in line["type"] for line in lines))
        self.assertNotIn("Lovelace", json.dumps(lines))
        self.assertIn("[sealed]", json.dumps(lines))
        self.assertNotIn("[erased]", json.dumps(lines))
        self.assertIn("Lovelace", self.server.ctl("events", "tail", "--open", "--session", session.id).stdout)
        self.assertIn("Lovelace", self.server.ctl("session", "show", session.id).stdout)
        self.assertNotIn("Lovelace", self.server.ctl("session", "show", session.id, "--sealed").stdout)
        self.assertIn("good", self.server.ctl("events", "verify").stdout)
        self.assertGreater(json.loads(self.server.ctl("events", "stats", "--json").stdout)["events"], 3)

    def test_an_export_goes_on_where_it_was_cut_but_not_in_a_file_that_is_gone(self):
        session = self.server.begin()
        session.told("My name is Ada Lovelace")
        file = self.server.data / "events.ndjson"
        self.server.ctl("events", "export", "--output", str(file))
        session.told("ada@analytical.example")
        with file.open("ab") as cut:
            cut.write(b'{"half of a li')
        self.server.ctl("events", "export", "--output", str(file), "--resume")
        ids = [sorted(json.loads(line)["id"] for line in text.splitlines()) for text in (file.read_text(), self.server.ctl("events", "export").stdout)]
        self.assertEqual(*ids)
        file.unlink()
        self.assertEqual(self.server.ctl("events", "export", "--output", str(file), "--resume", check=False).returncode, 2)
        self.assertFalse(file.exists(), "a file of zeros would look like an export")

    def test_an_export_goes_on_only_as_what_it_was_and_by_one_at_a_time(self):
        self.server.begin().told("My name is Ada Lovelace")
        file = self.server.data / "events.ndjson"
        export = lambda *options: self.server.ctl("events", "export", "--output", str(file), *options, check=False)
        self.assertEqual(export("--type", "FieldExtracted", "--type", "SessionStarted").returncode, 0)
        whole = file.read_bytes()
        for other in ((), ("--zstd",), ("--type", "FieldExtracted"), ("--type", "FieldExtracted", "--type", "SessionStarted", "--open")):
            refused = export("--resume", *other)
            self.assertEqual(refused.returncode, 2, other)
            self.assertIn("--type FieldExtracted --type SessionStarted", refused.stderr)
        self.assertEqual(file.read_bytes(), whole, "a refusal changes nothing")
        self.assertEqual(export("--resume", "--type", "SessionStarted", "--type", "FieldExtracted").returncode, 0)
        self.assertEqual(file.read_bytes(), whole)
        with file.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            for options in ((), ("--resume", "--type", "SessionStarted", "--type", "FieldExtracted")):
                refused = export(*options)
                self.assertEqual(refused.returncode, 2)
                self.assertIn("another export writes it", refused.stderr)
        self.assertEqual(file.read_bytes(), whole)

    def test_events_are_followed_as_they_come(self):
        tail = subprocess.Popen([str(BUILD / "onboardctl"), "--data-dir", str(self.server.data), "events", "tail", "--follow", "--json"], text=True,
                                stdout=subprocess.PIPE, env=clean_environment())
        self.addCleanup(tail.stdout.close)
        self.addCleanup(tail.wait)
        self.addCleanup(tail.kill)
        seen: list[str] = []
        reader = threading.Thread(target=lambda: [seen.append(line) for line in tail.stdout], daemon=True)
        reader.start()
        session = self.server.begin()
        wait_until(lambda: any(session.id in line for line in seen), "the event is seen")

    def test_exit_codes_are_stable(self):
        self.assertEqual(self.server.ctl("session", "show", "ses_000_00000000000000000000000000", check=False).returncode, 3)
        self.assertEqual(self.server.ctl("session", "show", "nonsense", check=False).returncode, 2)
        self.assertEqual(self.server.ctl("config", "get", "http.lisen", check=False).returncode, 2)
        self.assertEqual(self.server.ctl("nonsense", check=False).returncode, 2)
        self.assertEqual(self.server.ctl("--help").returncode, 0)
        self.assertEqual(self.server.ctl("where", "--ready").returncode, 0)
        self.assertEqual(self.server.ctl("config", "get", "http.listen").stdout.strip(), self.server.settings["http.listen"])
        self.server.terminate()
        self.assertEqual(self.server.ctl("where", check=False).returncode, 4)
        self.assertEqual(self.server.ctl("chat", "--patience", "0.1", check=False).returncode, 4)

    def test_chat_tells_what_was_refused_from_a_server_that_is_not_there(self):
        nope = self.server.ctl("chat", "--flow", "nope", check=False)
        self.assertEqual(nope.returncode, 2)
        self.assertIn("422", nope.stderr)
        self.assertNotIn("no server answers", nope.stderr)
        refused = self.server.ctl("chat", text="x" * 20_000 + "\nMy name is Ada Lovelace\n", check=False)
        self.assertEqual(refused.returncode, 1, "a script must not take its messages for said")
        self.assertIn("too long", refused.stderr)
        self.assertIn("Ada Lovelace", refused.stdout, "it goes on with the next")

    def test_a_start_repeated_after_a_resume_has_the_token_that_counts(self):
        def start() -> dict:
            return self.server.request("POST", "/api/onboarding/sessions", {}, {"Idempotency-Key": "once"}).json()

        first = start()
        resumed = self.server.request("POST", f"/api/onboarding/sessions/{first['session_id']}/resume",
                                      headers={"Authorization": "Bearer " + first["token"]}).json()
        self.assertNotEqual(resumed["token"], first["token"])
        self.assertEqual(start(), first | {"token": resumed["token"]})

    def test_a_folder_in_the_settings_place_and_a_taken_port_are_told(self):
        taken = subprocess.run([str(BUILD / "onboardd"), "--data-dir", str(self.server.data.parent / "other"), "--set",
                                "http.listen=" + self.server.settings["http.listen"], "--set", "http.admin_listen="],
                               text=True, capture_output=True, env=clean_environment(), timeout=PATIENCE)
        self.assertEqual(taken.returncode, 1)
        self.assertIn("http.listen", taken.stderr)
        self.assertEqual(taken.stderr.lower().count("address"), 1, taken.stderr)
        (self.server.data / "onboard.toml").mkdir()
        told = self.server.ctl("config", "check", check=False)
        self.assertEqual(told.returncode, 2)
        self.assertIn("is a folder", told.stderr)

    def test_stop_ends_no_other_folders_server(self):
        other = self.server.folder / "other"
        other.mkdir()
        for folder, ends in ((other, False), (self.server.data, True)):  # after a reboot a pid is somebody else's
            (folder / "onboardd.pid").write_text(f"{self.server.process.pid}\n")
            done = subprocess.run([str(ROOT / "infra/stop")], text=True, capture_output=True, timeout=PATIENCE,
                                  env=clean_environment() | {"ONBOARD_DATA_DIR": str(folder)})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("stopping the server" if ends else "no server runs", done.stderr)
            if not ends:
                self.assertIsNone(self.server.process.poll())
        self.assertEqual(self.server.process.wait(PATIENCE), 0)

    def test_keys_that_do_not_open_are_not_taken_for_a_log_that_cannot_be_written(self):
        session = self.server.begin()
        session.told("My name is Ada Lovelace")
        self.server.terminate()
        with contextlib.closing(sqlite3.connect(self.server.data / "keys.db")) as keys:
            keys.execute("UPDATE keys SET wrapped = zeroblob(length(wrapped))")
            keys.commit()
        self.server.start()
        answer = self.server.request("GET", session.path, headers=session.authorization)
        self.assertEqual(answer.status, 503)
        self.assertIn("cannot be read", answer.json()["title"])
        self.server.terminate()
        told = self.server.ctl("events", "verify", check=False)
        self.assertEqual(told.returncode, 5)
        self.assertIn("restore the newest keys.db", told.stdout)
        self.assertNotIn("Restore the log", told.stdout)

    def test_a_damaged_log_is_told_and_refuses_to_start(self):
        session = self.server.begin()
        for n in range(30):
            session.told(f"we are {n + 2} people")
        self.server.terminate()
        database = self.server.data / "log" / "events.db"
        raw = bytearray(database.read_bytes())
        at = raw.find(session.id.encode()[:16], 8192)
        self.assertGreater(at, 0)
        raw[at + 4] ^= 1
        database.write_bytes(raw)
        self.assertNotEqual(self.server.ctl("events", "verify", check=False).returncode, 0)
        self.server.launch()
        self.assertNotEqual(self.server.process.wait(PATIENCE), 0)
        self.assertIn("onboardd:", self.server.log())

    def test_a_log_without_its_head_starts_only_after_an_operator_accepted_it(self):
        session = self.server.begin()
        session.told("My name is Ada Lovelace")
        self.assertIn("another process writes", self.server.ctl("events", "rebuild-head", "--yes", check=False).stderr)
        self.server.terminate()
        (self.server.data / "log" / "events.db.head").unlink()
        self.server.launch()
        self.assertEqual(self.server.process.wait(PATIENCE), 1)
        self.assertIn("onboardctl events rebuild-head", self.server.log())
        asked = self.server.ctl("events", "rebuild-head", check=False)
        self.assertEqual(asked.returncode, 2)
        self.assertIn("given up", asked.stderr)
        self.assertFalse((self.server.data / "log" / "events.db.head").exists())
        self.server.ctl("events", "rebuild-head", "--yes")
        self.server.start()
        self.assertEqual(session.state()["status"], "active")

    def test_lost_keys_are_not_made_anew(self):
        session = self.server.begin()
        self.server.terminate()
        for name in ("keys.db", "master.key"):
            kept = self.server.data / (name + ".kept")
            (self.server.data / name).rename(kept)
            self.server.launch()
            self.assertEqual(self.server.process.wait(PATIENCE), 1)
            self.assertIn(f"{name} is missing", self.server.log())
            self.assertFalse((self.server.data / name).exists())
            kept.rename(self.server.data / name)
        self.server.start()
        self.assertEqual(session.state()["status"], "active")

    def test_an_older_keys_file_hides_nobody_as_erased(self):
        first = self.server.begin()
        first.told("My name is Ada Lovelace")
        self.server.terminate()
        older = (self.server.data / "keys.db").read_bytes()
        self.server.start()
        second = self.server.begin()
        second.told("My name is Bob Stone")
        self.server.terminate()
        newest = (self.server.data / "keys.db").read_bytes()
        (self.server.data / "keys.db").write_bytes(older)
        self.server.start()
        self.assertIn("keys.db lacks the keys of 1 of the newest sessions", self.server.log())
        self.assertEqual(self.server.request("GET", second.path, headers=second.authorization).status, 503)
        self.assertEqual(first.state()["fields"], {"full_name": "Ada Lovelace"})
        verified = self.server.ctl("events", "verify", check=False)
        self.assertEqual(verified.returncode, 5)
        self.assertIn(f"{second.id}: its key is not in keys.db", verified.stdout)
        self.server.terminate()
        (self.server.data / "keys.db").write_bytes(newest)
        self.server.start()
        self.assertEqual(second.state()["fields"], {"full_name": "Bob Stone"})
        self.server.ctl("events", "verify")

    def test_a_server_that_cannot_write_keys_is_not_ready(self):
        self.server.terminate()
        self.server.start({"ONBOARD_FAULT": "keys.before_commit=error"})
        self.assertEqual(self.server.request("POST", "/api/onboarding/sessions", {"user_id": "ann"}).status, 503)
        not_ready = wait_until(lambda: (answer := self.server.request("GET", "/readyz")).status == 503 and answer, "it is not ready")
        self.assertEqual(not_ready.body, b"keys.db cannot be written\n")
        health = self.server.request("GET", "/api/metrics/health")
        self.assertEqual((health.status, health.json()["status"]), (503, "unhealthy"))

    def test_a_log_that_vanished_does_not_begin_anew(self):
        session = self.server.begin()
        self.server.terminate()
        (self.server.data / "log").rename(self.server.data / "log.kept")
        self.server.launch()
        self.assertEqual(self.server.process.wait(PATIENCE), 1)
        self.assertIn("mount or restore that one", self.server.log())
        shutil.rmtree(self.server.data / "log")
        (self.server.data / "log.kept").rename(self.server.data / "log")
        self.server.start()
        self.assertEqual(session.state()["status"], "active")

    def test_a_first_start_that_is_killed_is_followed_by_one_that_works(self):
        for point in ("log.before_head_is_made", "log.while_head_is_made", "flow.before_publish", "flow.after_publish"):
            with self.subTest(point=point):
                server = Server()
                self.addCleanup(server.close)
                server.launch({"ONBOARD_FAULT": f"{point}=crash"})
                self.assertEqual(server.process.wait(PATIENCE), -9)
                server.start()
                server.begin().told("My name is Ada Lovelace")
                self.assertEqual(server.terminate(), 0)
                server.ctl("events", "verify")

    def test_how_long_turns_take_is_measured_without_a_provider_too(self):
        self.server.begin().told("My name is Ada Lovelace")
        metrics = self.server.request("GET", "/metrics", admin=True).body.decode()
        took = float(next(line.split()[1] for line in metrics.splitlines() if line.startswith("onboarding_turn_duration_seconds_sum")))
        self.assertGreater(took, 0)

    def test_every_file_is_its_owners_and_every_log_line_is_an_object(self):
        self.server.begin().told("My name is Ada Lovelace")
        self.server.terminate()
        open_to_others = [str(p) for p in self.server.data.rglob("*") if p.is_file() and stat.S_IMODE(p.stat().st_mode) & 0o077]
        self.assertEqual(open_to_others, [])
        lines = [json.loads(line) for line in self.server.log().splitlines()]
        self.assertTrue(all({"time", "level", "event"} <= line.keys() for line in lines if "method" not in line), lines)
        self.assertTrue(any(line.get("event") not in (None, "log") and "fields" in line for line in lines), "the actors' lines are objects, not texts")


class Onboardd(unittest.TestCase):
    def run_it(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        return subprocess.run([str(BUILD / "onboardd"), *arguments], text=True, capture_output=True, timeout=PATIENCE, env=clean_environment() | (environment or {}))

    def test_prints_the_configuration_in_force_without_secrets(self):
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "onboard.toml").write_text('[model.openai]\napi_key = "sk-hidden"\n[sessions]\nmax_messages = 7\n')
            done = self.run_it("--data-dir", folder, "--print-config", environment={"ONBOARD_MODEL_OPENAI_WEIGHT": "3"})
            self.assertEqual(done.returncode, 0, done.stderr)
            printed = tomllib.loads(done.stdout)
            self.assertEqual(printed["sessions"]["max_messages"], 7)
            self.assertEqual(printed["model"]["openai"]["weight"], 3)
            self.assertNotIn("sk-hidden", done.stdout)

    def test_refuses_a_configuration_that_is_wrong_and_says_where(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "onboard.toml")
            file.write_text("[sessions]\nmax_mesages = 7\n")
            done = self.run_it("--data-dir", folder)
            self.assertEqual(done.returncode, 2)
            self.assertIn(f"{file}:2: unknown key sessions.max_mesages; did you mean sessions.max_messages?", done.stderr)

    def test_says_what_kafka_needs_and_which_roles_go_together(self):
        with tempfile.TemporaryDirectory() as folder:
            done = self.run_it("--data-dir", folder, "--set", "log.kind=kafka")
            self.assertEqual(done.returncode, 2)
            self.assertIn("needs log.brokers", done.stderr)
            everywhere = ("--set", "log.kind=kafka", "--set", "log.brokers=127.0.0.1:1", "--set", "cluster.listen=0.0.0.0:0")
            done = self.run_it("--data-dir", folder, *everywhere)
            self.assertEqual(done.returncode, 2)
            self.assertIn("set cluster.address", done.stderr)
            self.assertEqual(self.run_it("--data-dir", folder, "--roles", "api").returncode, 2)
            self.assertEqual(self.run_it("--data-dir", folder, "--roles", "nonsense").returncode, 2)

    def test_says_so_when_its_port_or_its_data_folder_is_taken(self):
        with Server() as first:
            with tempfile.TemporaryDirectory() as folder:
                done = self.run_it("--data-dir", folder, "--set", f"http.listen={first.settings['http.listen']}", "--set", "http.admin_listen=127.0.0.1:0")
                self.assertEqual(done.returncode, 1)
                self.assertIn(first.settings["http.listen"], done.stderr)
            done = self.run_it("--data-dir", str(first.data), "--set", "http.listen=127.0.0.1:0", "--set", "http.admin_listen=127.0.0.1:0")
            self.assertEqual(done.returncode, 1)
            self.assertEqual(first.request("GET", "/readyz").status, 200)
            self.assertTrue((first.data / "running.toml").exists(), "the second one must not remove the first one's traces")

    def test_lists_its_fault_points_and_its_version(self):
        points = self.run_it("--fault-points").stdout.split()
        self.assertGreater(len(points), 3)
        self.assertEqual(len(points), len(set(points)))
        self.assertRegex(self.run_it("--version").stdout, r"^\d+\.\d+\.\d+\n$")


@unittest.skipUnless(BUILD == ROOT / "build", "the scripts use build/")
class Scripts(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-run."))
        os.chmod(self.folder, 0o755)
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.port = free_port()
        self.environment = clean_environment() | {"ONBOARD_DATA_DIR": str(self.folder / "data"), "ONBOARD_HTTP_LISTEN": f"127.0.0.1:{self.port}",
                                                  "ONBOARD_HTTP_ADMIN_LISTEN": f"127.0.0.1:{free_port()}"}
        self.addCleanup(self.script, "stop")

    def script(self, name: str, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([str(ROOT / "infra" / name), *arguments], text=True, capture_output=True, env=self.environment, timeout=300)

    def test_run_starts_everything_goes_on_with_a_folder_that_exists_and_stop_ends_it(self):
        for _ in range(2):
            begun = self.script("run", "--detach")
            self.assertEqual(begun.returncode, 0, begun.stderr)
            self.assertIn(f"http://127.0.0.1:{self.port}/", begun.stderr)
            url = subprocess.run([str(BUILD / "onboardctl"), "config", "get", "postgres.url"], text=True, capture_output=True, env=self.environment)
            self.assertTrue(url.stdout.startswith("postgresql:///onboarding?"), url)
            again = self.script("run", "--detach")
            self.assertEqual(again.returncode, 0)
            self.assertIn("already running", again.stderr)
            ended = self.script("stop")
            self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertFalse((self.folder / "data" / "onboardd.pid").exists())

    def test_run_says_what_several_servers_need_and_when_a_port_is_taken(self):
        done = self.script("run", "--instances", "3")
        self.assertEqual(done.returncode, 2)
        self.assertIn("infra/run --kafka --instances 3", done.stderr)
        with Server() as other:
            self.environment["ONBOARD_HTTP_LISTEN"] = other.settings["http.listen"]
            done = self.script("run", "--detach")
            self.assertEqual(done.returncode, 1)
            self.assertIn("is taken", done.stderr)


if __name__ == "__main__":
    unittest.main()
