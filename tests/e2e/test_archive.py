"""Old rows of the read models go into compressed files and out of the tables; the log keeps everything."""
import json
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import fold
from harness import WithDatabase
from people import lines_of


class Archive(WithDatabase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="onboarding-archive."))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def archive(self, *options: str, check: bool = True):
        return self.server.ctl("archive", *options, check=check)

    def rows(self, file: pathlib.Path) -> list[dict]:
        return [json.loads(line) for line in subprocess.run(["zstd", "-dc", str(file)], capture_output=True, check=True).stdout.splitlines()]

    def test_moves_what_is_old_enough_and_nothing_else(self):
        for n in range(4):
            session = self.server.begin()
            for line in lines_of(n).values():
                session.told(line)
        fold.assert_follows(self.server, self.database.url)
        old = self.database.query("SELECT session_id FROM onboarding_sessions ORDER BY 1 LIMIT 2").split()
        chosen = ", ".join(f"'{session}'" for session in old)
        self.database.query(f"UPDATE conversation_messages SET timestamp = timestamp - interval '100 days' WHERE session_id IN ({chosen})")
        kept = self.database.query(f"SELECT string_agg(m::text, '' ORDER BY session_id, version) FROM conversation_messages m WHERE session_id NOT IN ({chosen})")
        count = int(self.database.query(f"SELECT count(*) FROM conversation_messages WHERE session_id IN ({chosen})"))

        told = self.archive("--older-than", "90d").stdout
        self.assertIn(f"conversation_messages: {count} rows", told)
        self.assertEqual(int(self.database.query(f"SELECT count(*) FROM conversation_messages WHERE session_id IN ({chosen})")), count, "only counted")
        self.archive("--older-than", "90d", "--into", str(self.folder), "--yes")
        files = list(self.folder.iterdir())
        self.assertEqual(len(files), 1, "the other tables have nothing old")
        rows = self.rows(files[0])
        self.assertEqual(len({(row["session_id"], row["version"]) for row in rows}), count)
        self.assertEqual({row["session_id"] for row in rows}, set(old))
        self.assertEqual({row["text"] for row in rows}, {"[sealed]"})
        self.assertEqual(files[0].stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.database.query("SELECT string_agg(m::text, '' ORDER BY session_id, version) FROM conversation_messages m"), kept)
        self.assertEqual(self.database.query("SELECT action || (detail->>'rows') FROM projection_audit WHERE projection = 'conversation_messages'"), f"archive{count}")
        self.assertIn(": 0 rows", self.archive("--older-than", "90d").stdout)
        session.told("Sorry, my email is corrected@example.com")  # the server goes on

    def test_says_what_it_needs(self):
        for options in (["--older-than", "soon"], ["--older-than", "1d"], ["--older-than", "90d", "--yes"], ["--older-than", "90d", "--table", "users"], []):
            self.assertEqual(self.archive(*options, check=False).returncode, 2, options)
        fold.assert_follows(self.server, self.database.url)
        self.database.query("INSERT INTO turn_outcomes VALUES ('2020-01-01', 1, 0)")
        (self.folder / "file").write_text("")
        done = self.archive("--older-than", "90d", "--into", str(self.folder / "file"), "--yes", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(self.database.query("SELECT count(*) FROM turn_outcomes WHERE minute < '2021-01-01'"), "1", "what cannot be kept is not deleted")


if __name__ == "__main__":
    unittest.main()
