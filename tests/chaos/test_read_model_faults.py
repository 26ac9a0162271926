"""PostgreSQL, the way to it and the server fail under load; afterwards the read models are the fold of the log, exactly.

Each case talks while its faults happen, heals what it broke, and compares every table row by row with tests/fold. Onboarding must not notice
what happens to PostgreSQL. ONBOARDING_CAMPAIGN_SECONDS gives each case more time, ONBOARDING_SEED repeats a run's choices, ONBOARDING_FAULTS=short
runs two cases with few faults. On a log in Kafka PostgreSQL's own faults are the same, and those of who follows the log are tried.
"""
import contextlib
import http.client
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import uuid

import fold
from harness import BUILD, LOG, PATIENCE, Postgres, Server, clean_environment, has_ended, postgres_program, psql, wait_until
from people import lines_of
from postgres_proxy import FATES, Proxy

CAMPAIGN = float(os.environ.get("ONBOARDING_CAMPAIGN_SECONDS", "0"))
SECONDS = max(4.0, CAMPAIGN / 10)
SHORT = os.environ.get("ONBOARDING_FAULTS") == "short"
CUTS = 15 if SHORT else int(300 + CAMPAIGN)
SEED = int(os.environ.get("ONBOARDING_SEED", time.time_ns() % 1_000_000))


class Talkers:
    """Four people at a time, one after another: all kinds of things that can be said, and some who leave in the middle."""

    def __init__(self, server: Server, insist: bool = False, pause: float = 0.02) -> None:
        """`insist`: the server itself may be away; `pause`: between two messages, so that a short run is no long log."""
        self.server, self.insist, self.pause = server, insist, pause
        self.stop, self.turns, self.failure = threading.Event(), 0, None
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(4)]

    def __enter__(self) -> "Talkers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(PATIENCE)
        if self.failure:
            raise self.failure

    def said(self, turns: int) -> None:
        """Waits until that many more turns were answered."""
        goal = self.turns + turns
        wait_until(lambda: self.failure or self.turns >= goal, f"{turns} more turns")

    def _run(self, number: int) -> None:
        dice = random.Random(SEED * 10 + number)
        try:
            while not self.stop.is_set():
                self._one(dice)
        except Exception as error:
            self.failure = error

    def _post(self, path: str, body: dict, headers: dict) -> dict | None:
        headers = headers | {"Idempotency-Key": uuid.uuid4().hex}
        while True:
            try:
                answer = self.server.request("POST", path, body, headers)
                if answer.status in (200, 201):
                    return answer.json()
                if answer.status == 409:  # the clock jumped over the session's end
                    return None
                if not (self.insist and answer.status == 503):
                    raise AssertionError(answer)
            except (OSError, http.client.HTTPException):
                if not self.insist:
                    raise
            if self.stop.wait(0.05):
                return None

    def _one(self, dice: random.Random) -> None:
        body = {"user_id": f"person-{dice.randrange(50)}@example.com"} if dice.random() < 0.3 else {}
        started = self._post("/api/onboarding/sessions", body | {"plan": dice.choice(["free", "pro"])}, {})
        if started is None:
            return
        said = [*lines_of(dice.randrange(1000)).values()][:dice.randint(1, 6)]
        if dice.random() < 0.3:
            said.insert(dice.randrange(len(said)), "my mail is zoe")
        if dice.random() < 0.3:
            said.append("Sorry, my email is corrected@example.com")
        for line in said:
            if self.stop.wait(self.pause):
                return
            answer = self._post(f"/api/onboarding/sessions/{started['session_id']}/messages", {"message": line}, {"Authorization": f"Bearer {started['token']}"})
            if answer is None:
                return
            self.turns += 1


class PrivatePostgres(Postgres):
    def __init__(self, folder: pathlib.Path | None = None) -> None:
        if folder is None:
            super().__init__()
        else:
            self.folder = folder
            self.start()

    @property
    def socket(self) -> pathlib.Path:
        return pathlib.Path(re.search(r"host=([^&]+)", self.url).group(1).replace("%2F", "/")) / ".s.PGSQL.5432"

    def pid(self) -> int:
        return int((self.folder / "db/postmaster.pid").read_text().split()[0])

    def alive(self) -> bool:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return pathlib.Path(f"/proc/{self.pid()}/cwd").exists()
        return False

    def kill(self) -> None:
        """Immediate shutdown: no checkpoint, the next start recovers."""
        pid = self.pid()
        os.kill(pid, signal.SIGQUIT)
        wait_until(lambda: has_ended(pid), "PostgreSQL is gone")


def as_postgres(*command: str) -> None:
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, *command], capture_output=True, text=True, cwd="/")
    if done.returncode != 0:
        raise AssertionError(f"{command[0]}: {done.stderr}")


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        print(f"seed {SEED}", flush=True)
        cls.postgres = PrivatePostgres()
        cls.addClassCleanup(cls.postgres.close)
        cls.proxy = Proxy(cls.postgres.socket)
        cls.addClassCleanup(cls.proxy.close)
        cls.server = Server(postgres_url=cls.proxy.url, settings={"sessions.abandon_after_minutes": 0.05})
        cls.addClassCleanup(cls.server.close)
        cls.server.start()

    def compare(self) -> None:
        """Sessions are abandoned for some seconds after the last word: the fold waits until the log is at rest."""
        wait_until(lambda: self.server.request("GET", "/api/admin/projections", admin=True).status == 200, "the server answers")
        fold.assert_follows(self.server, self.postgres.url, patience=2 * PATIENCE)
        self.assertEqual(psql(self.postgres.url, "SELECT count(*) FROM projection_parked_keys"), "0", "a fault of PostgreSQL is nobody's poison")

    def test_connections_cut_around_the_commit(self):
        spared = threading.Event()

        def fate() -> str | None:  # every second one, so that the writer's pauses stay short
            if sum(self.proxy.cuts.values()) >= CUTS:
                return None
            if spared.is_set():
                spared.clear()
                return FATES[sum(self.proxy.cuts.values()) % 3]
            spared.set()
            return None
        self.proxy.fate = fate
        self.addCleanup(setattr, self.proxy, "fate", lambda: None)
        with Talkers(self.server, pause=0.1):
            wait_until(lambda: sum(self.proxy.cuts.values()) >= CUTS, f"{CUTS} cuts", PATIENCE + CUTS)
        print(self.proxy.cuts, flush=True)
        self.assertGreaterEqual(min(self.proxy.cuts.values()), CUTS // 6)
        self.compare()

    def test_postgres_killed_and_started_again(self):
        with Talkers(self.server) as talkers:
            for _ in range(1 if SHORT else max(3, int(SECONDS / 2))):
                talkers.said(30)
                self.postgres.kill()
                talkers.said(10)
                self.postgres.start()
        self.compare()

    def test_postgres_restarted_in_order(self):
        with Talkers(self.server) as talkers:
            for _ in range(2):
                talkers.said(20)
                self.postgres.stop()
                self.postgres.start()
                talkers.said(20)
        self.compare()

    def test_backends_terminated_again_and_again(self):
        with Talkers(self.server) as talkers:
            for _ in range(int(SECONDS * 5)):
                talkers.said(5)
                psql(self.postgres.url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
        self.compare()

    def test_a_slow_and_a_hanging_way_to_postgres(self):
        self.addCleanup(self.proxy.flowing.set)
        self.addCleanup(setattr, self.proxy, "delay_seconds", 0.0)
        with Talkers(self.server) as talkers:
            self.proxy.delay_seconds = 0.02
            talkers.said(60)
            self.proxy.delay_seconds = 0.0
            for _ in range(3):
                self.proxy.flowing.clear()
                talkers.said(30)
                self.proxy.cut_all()
                self.proxy.flowing.set()
                talkers.said(10)
        self.compare()

    def test_the_runner_killed_at_each_of_its_fault_points(self):
        points = [p for p in subprocess.run([str(BUILD / "onboardd"), "--fault-points"], text=True, capture_output=True, env=clean_environment(), check=True).stdout.split()
                  if p.startswith("projection.")]
        self.assertGreaterEqual(len(points), 2)
        self.addCleanup(self.restart)
        for point in points:
            reached = 0
            for at in (1, 2, 5):
                self.server.kill()
                self.server.launch({"ONBOARD_FAULT": f"{point}=crash@{at}"})
                def died() -> bool:
                    if not point.endswith("_commit"):  # only who changes projections comes that way
                        with contextlib.suppress(OSError, http.client.HTTPException):
                            seen = self.server.request("GET", "/api/admin/projections/sessions", admin=True)
                            if seen.status == 200:
                                change = {"revision": seen.json()["revision"], "reason": "a test", "swap": "always"}
                                self.server.request("POST", "/api/admin/projections/sessions/rebuild", change, admin=True)
                    return self.server.process.poll() is not None
                with Talkers(self.server, insist=True):
                    with contextlib.suppress(AssertionError):
                        wait_until(died, "it dies there", 10 if reached == 0 else 4, 0.2)
                    if self.server.process.poll() is not None:
                        self.assertEqual(self.server.process.returncode, -signal.SIGKILL)
                        reached += 1
                        self.server.start()
                    else:
                        break
            print(f"{point}: died {reached} times", flush=True)
        self.compare()

    def restart(self) -> None:
        if self.server.process.poll() is None:
            self.server.kill()
        self.server.start()

    def test_delivered_again_from_an_older_state_of_the_database(self):
        with Talkers(self.server) as talkers:
            talkers.said(40)
            admin = re.sub(r"^postgresql:///onboarding\?", "postgresql:///postgres?", self.postgres.url)
            kick = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'onboarding'; "

            def replace(statement: str) -> bool:  # the server comes back at once: until nobody is connected
                with contextlib.suppress(AssertionError):
                    psql(admin, "ALTER DATABASE onboarding ALLOW_CONNECTIONS false")
                    psql(admin, kick + "SELECT pg_sleep(0.1)")
                    psql(admin, statement)
                    return True
                return False
            wait_until(lambda: replace("CREATE DATABASE earlier TEMPLATE onboarding"), "a copy is made")
            psql(admin, "ALTER DATABASE onboarding ALLOW_CONNECTIONS true")
            talkers.said(60)
            wait_until(lambda: replace("DROP DATABASE onboarding"), "it is dropped")
            psql(admin, "ALTER DATABASE earlier RENAME TO onboarding")
            psql(admin, "ALTER DATABASE onboarding ALLOW_CONNECTIONS true")
            talkers.said(20)
        self.compare()


class Failover(unittest.TestCase):
    compare = Faults.compare

    def test_to_a_replica_loses_and_doubles_nothing(self):
        primary = PrivatePostgres()
        self.addCleanup(primary.close)
        standby_folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-pg."))
        os.chmod(standby_folder, 0o755)
        copy = standby_folder / "db"
        copy.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(copy, "postgres")
        as_postgres(postgres_program("pg_basebackup"), "-h", str(primary.socket.parent), "-U", "postgres", "-D", str(copy), "-R", "-X", "stream", "-c", "fast")
        self.postgres = PrivatePostgres(standby_folder)
        self.addCleanup(self.postgres.close)
        url = f"postgresql:///onboarding?host={primary.socket.parent},{self.postgres.socket.parent}&user=postgres&target_session_attrs=read-write"
        self.server = Server(postgres_url=url, settings={"sessions.abandon_after_minutes": 0.05})
        self.addCleanup(self.server.close)
        self.server.start()
        with Talkers(self.server) as talkers:
            talkers.said(100)
            wait_until(lambda: psql(self.postgres.url, "SELECT count(*) > 0 FROM pg_tables WHERE tablename = 'projection_checkpoints'") == "t", "the replica follows")
            sessions = "/api/admin/projections/sessions"
            change = {"revision": self.server.request("GET", sessions, admin=True).json()["revision"], "swap": "always"}
            self.assertEqual(self.server.request("POST", sessions + "/rebuild", change, admin=True).status, 202)
            primary.kill()  # the rebuild is under way, or was: the replica knows of it, or does not
            talkers.said(50)
            psql(self.postgres.url, "SELECT pg_promote()")
            talkers.said(50)
        self.compare()


class SharedWork(unittest.TestCase):
    compare = Faults.compare

    def test_by_processes_that_are_killed_in_turn_is_done_once(self):
        class WithoutProjections(Server):
            def command(self) -> list[str]:
                return [*super().command(), "--roles", "api,sessions"]
        self.postgres = PrivatePostgres()
        self.addCleanup(self.postgres.close)
        self.server = WithoutProjections(postgres_url=self.postgres.url, settings={"sessions.abandon_after_minutes": 0.05})
        self.addCleanup(self.server.close)
        self.server.start()

        def work() -> subprocess.Popen:
            command = [*Server.command(self.server), "--roles", "projections"]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment())
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            return process
        workers = [work(), work()]
        with Talkers(self.server) as talkers:
            for n in range(max(4, int(SECONDS / 2))):
                talkers.said(40)
                workers[n % 2].kill()
                workers[n % 2].wait()
                workers[n % 2] = work()
        self.compare()
        self.assertTrue(all(worker.poll() is None for worker in workers))


class FullDisk(unittest.TestCase):
    compare = Faults.compare

    def test_of_postgres_stops_the_read_models_only_until_there_is_room(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-pg."))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m,mode=755", "tmpfs", str(folder)], capture_output=True).returncode != 0:
            self.skipTest("mounting a small disk needs root")
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=False)
        self.postgres = PrivatePostgres(folder)
        self.addCleanup(self.postgres.stop)
        self.server = Server(postgres_url=self.postgres.url, settings={"sessions.abandon_after_minutes": 0.05})
        self.addCleanup(self.server.close)
        self.server.start()
        ballast = folder / "ballast"
        with Talkers(self.server) as talkers:
            for _ in range(2):
                talkers.said(50)
                with open(ballast, "wb", buffering=0) as out, contextlib.suppress(OSError):
                    while out.write(b"\0" * (1 << 16)) == 1 << 16:
                        pass
                # A heap that cannot grow refuses statements; a WAL that cannot ends PostgreSQL. Both must be survived.
                wait_until(lambda: not self.postgres.alive() or "running" not in {p["state"] for p in self.states()}, "the full disk shows")
                talkers.said(20)
                ballast.unlink()
                self.postgres.start()
        self.compare()

    def states(self) -> list[dict]:
        with contextlib.suppress(AssertionError):
            psql(self.postgres.url, "CREATE TABLE grows AS SELECT generate_series(1, 200000); DROP TABLE grows")
        return self.server.request("GET", "/api/admin/projections", admin=True).json()["projections"]


SHIFTED_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
/* The wall clock, moved by as many seconds as stand in the file that CLOCK_SHIFT names. */
int clock_gettime(clockid_t id, struct timespec* now) {
  static int (*real)(clockid_t, struct timespec*);
  if (!real) real = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(id, now);
  const char* name = id == CLOCK_REALTIME ? getenv("CLOCK_SHIFT") : 0;
  FILE* file = name ? fopen(name, "r") : 0;
  long shift = 0;
  if (file) {
    if (fscanf(file, "%ld", &shift) == 1) now->tv_sec += shift;
    fclose(file);
  }
  return code;
}
"""


class ClockJump(unittest.TestCase):
    compare = Faults.compare

    def test_forwards_and_back_leaves_the_read_models_what_the_events_say(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-clock."))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        (folder / "clock.c").write_text(SHIFTED_CLOCK)
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(folder / "clock.so"), str(folder / "clock.c"), "-ldl"], check=True)
        shift = folder / "shift"
        shift.write_text("0")
        self.postgres = PrivatePostgres()
        self.addCleanup(self.postgres.close)
        self.server = Server(postgres_url=self.postgres.url, settings={"sessions.abandon_after_minutes": 0.05})
        self.addCleanup(self.server.close)
        self.server.start({"LD_PRELOAD": str(folder / "clock.so"), "CLOCK_SHIFT": str(shift)})
        with Talkers(self.server) as talkers:
            for seconds in (86_400, 40 * 86_400, -3 * 86_400, 0, -3600, 0):
                (folder / "next").write_text(str(seconds))
                (folder / "next").rename(shift)
                talkers.said(30)
        self.compare()
        days = psql(self.postgres.url, "SELECT count(DISTINCT created_at::date) FROM onboarding_sessions")
        self.assertGreaterEqual(int(days), 4, "the clock did jump")
        self.server.ctl("events", "verify")


if SHORT:
    def load_tests(*_) -> unittest.TestSuite:
        return unittest.TestSuite(map(Faults, ("test_connections_cut_around_the_commit", "test_postgres_killed_and_started_again")))
elif LOG == "kafka":
    def load_tests(loader, *_) -> unittest.TestSuite:
        return unittest.TestSuite([Faults("test_delivered_again_from_an_older_state_of_the_database"), loader.loadTestsFromTestCase(SharedWork)])


if __name__ == "__main__":
    unittest.main()
