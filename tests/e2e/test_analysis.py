"""The example of infra/docs/analysis on a real export: it runs, draws, and says what the view `funnel` says."""
import json
import subprocess
import unittest

import fold
from harness import ROOT, WithDatabase, clean_environment
from people import lines_of


class Analysis(WithDatabase):
    def test_the_funnel_of_an_export_is_drawn_and_is_the_funnel_of_the_read_models(self):
        for n in range(12):
            session = self.server.begin()
            for line in list(lines_of(n).values())[:1 + n % 6]:
                session.told(line)
        fold.assert_follows(self.server, self.database.url)
        for export, options in (("events.ndjson", ()), ("events.ndjson.zst", ("--zstd",))):
            file, picture = self.server.folder / export, self.server.folder / "funnel.png"
            self.server.ctl("events", "export", "--output", str(file), *options)
            done = subprocess.run([str(ROOT / "infra/dev/analysis"), str(ROOT / "infra/docs/analysis/funnel.py"), str(file), str(picture)],
                                  capture_output=True, text=True, env=clean_environment())
            self.assertEqual(done.returncode, 0, done.stderr)
            drawn = json.loads(done.stdout)["steps"]
            rows = self.database.query("SELECT concat_ws(' ', name, field) || '|' || sessions FROM funnel WHERE flow = 'default' ORDER BY step").splitlines()
            self.assertEqual([f"{step['name']}|{step['sessions']}" for step in drawn], rows)
            self.assertEqual((drawn[0]["sessions"], drawn[-1]["sessions"]), (12, 2))
            png = picture.read_bytes()
            self.assertTrue(png.startswith(b"\x89PNG") and len(png) > 20_000, f"{len(png)} bytes")
            picture.unlink()


if __name__ == "__main__":
    unittest.main()
