"""A disk that is full: the server says 503, loses nothing, and goes on when there is room again."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from harness import PATIENCE, Server, wait_until

DISK_BYTES = 48 << 20


class FullDisk(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-disk."))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.disk = self.folder / "disk"
        self.disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(self.disk)], capture_output=True)
        if mounted.returncode != 0:
            self.skipTest("mounting a small disk needs root")
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.disk)], check=False)

    def test_is_answered_with_503_and_nothing_acknowledged_is_lost(self):
        server = Server(self.disk)
        self.addCleanup(server.close)
        server.start()
        session = server.begin()
        acknowledged = [session.told("My name is Ada Lovelace")]
        ballast = self.disk / "ballast"
        self._fill(ballast)
        refused = wait_until(lambda: (a := session.say("ada@analytical.example, and more " * 40)).status == 503 and a, "the full disk shows", PATIENCE)
        self.assertIn("retry-after", refused.headers)
        ready = wait_until(lambda: server.request("GET", "/readyz").status == 503, "it is not ready while it cannot write")
        self.assertTrue(ready)
        self.assertEqual(session.state()["fields"]["full_name"], "Ada Lovelace", "reading goes on")
        lines = session.conversation()
        ballast.unlink()
        answered = wait_until(lambda: (a := session.say("ada@analytical.example")).status == 200 and a.json(), "it goes on when there is room")
        self.assertIn("email", answered["extracted"])
        self.assertEqual(session.conversation()[:len(lines)], lines)
        self.assertIn(acknowledged[0]["response"], [line["text"] for line in session.conversation()])
        self.assertIn("everybody is told 503", server.log())
        wait_until(lambda: "there is room for the log again" in server.log(), "the log says that there is room")
        server.kill()
        server.start()
        self.assertEqual(session.state()["fields"]["email"], "ada@analytical.example")
        server.ctl("events", "verify")

    def _fill(self, ballast: pathlib.Path) -> None:
        with open(ballast, "wb", buffering=0) as out:
            for block in (1 << 20, 4096, 1):
                try:
                    while True:
                        if out.write(b"\0" * block) < block:
                            break
                except OSError:
                    pass
        self.assertLess(os.statvfs(self.disk).f_bavail, 4)


if __name__ == "__main__":
    unittest.main()
