"""What PostgreSQL has: every table and view in one snapshot, read through psql."""
import datetime
import json
import shutil
import subprocess

from .tables import KEYS, microseconds
from .views import VIEW_KEYS

ALL_KEYS = KEYS | VIEW_KEYS
TIMES = {"created_at", "updated_at", "completed_at", "abandoned_at", "last_started_at", "timestamp", "minute"}


class Live:
    """`schema`: where the tables lie that are looked at; views are looked for there, then in public."""

    def __init__(self, url: str, schema: str = "public", names=None) -> None:
        self.names = list(names or ALL_KEYS)
        script = [f"SET timezone = 'UTC'; SET search_path = \"{schema}\", public; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;"]
        script += [f"\\echo = {name}\nSELECT row_to_json(t) FROM {name} t;" for name in [*self.names, "projection_checkpoints", "projection_parked_keys"]]
        psql = shutil.which("psql") or "/usr/lib/postgresql/15/bin/psql"
        done = subprocess.run([psql, url, "-qAtX", "-v", "ON_ERROR_STOP=1", "-f", "-"], input="\n".join(script), text=True, capture_output=True)
        if done.returncode != 0:
            raise ConnectionError(done.stderr.strip())
        self._rows: dict[str, list[dict]] = {}
        into: list[dict] = []
        for line in done.stdout.splitlines():
            if line.startswith("= "):
                into = self._rows.setdefault(line[2:], [])
            else:
                into.append(json.loads(line))

    def rows(self, name: str) -> dict[tuple, dict]:
        found = {}
        for row in self._rows[name]:
            for column in TIMES & row.keys():
                if row[column] is not None:
                    row[column] = microseconds(row[column]) if isinstance(row[column], str) else row[column]
            key = tuple(row[c] for c in ALL_KEYS[name])
            if key in found:
                raise AssertionError(f"{name} has {key} twice")
            found[key] = row
        return found

    def parked(self) -> list[tuple]:
        """As Fold takes it."""
        return [(p["projection"], p["parked_key"], p["sequence"], p["partition"]) for p in self._rows["projection_parked_keys"]]

    def checkpoints(self) -> dict[tuple[str, int], int]:
        """As Fold takes it: of each projection's newest version."""
        rows = sorted(self._rows["projection_checkpoints"], key=lambda c: c["version"])
        return {(c["projection"], c["partition"]): c["sequence"] for c in rows}
