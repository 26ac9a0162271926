"""What PostgreSQL has: every table and view in one snapshot, read through psql."""
import datetime
import json
import shutil
import subprocess

from .tables import KEYS, microseconds
from .views import VIEW_KEYS

ALL_KEYS = KEYS | VIEW_KEYS
TIMES = {"created_at", "updated_at", "completed_at", "abandoned_at", "last_started_at", "timestamp", "minute"}


STATE = ("projection_checkpoints", "projection_parked_keys")
GENERATIONS = ("projection_generations", "projection_skipped_events")  # of databases that keep several generations of a table


class Live:
    """`schema`: where the tables lie that are looked at; views, and tables that it does not have, are looked for in public. `generations`:
    whose checkpoints and parked keys count, where they are not the live ones' {projection: generation}."""

    def __init__(self, url: str, schema: str = "public", names=None, generations: dict[str, int] | None = None) -> None:
        self.names = list(names or ALL_KEYS)
        script = [f"SET timezone = 'UTC'; SET search_path = \"{schema}\", public; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;",
                  f"SELECT to_regclass('{GENERATIONS[0]}') IS NOT NULL AS generations \\gset",
                  *map(self._rows_of, [*self.names, *STATE]), "\\if :generations", *map(self._rows_of, GENERATIONS), "\\endif"]
        psql = shutil.which("psql") or "/usr/lib/postgresql/15/bin/psql"
        done = subprocess.run([psql, url, "-qAtX", "-v", "ON_ERROR_STOP=1", "-f", "-"], input="\n".join(script), text=True, capture_output=True)
        if done.returncode != 0:
            raise ConnectionError(done.stderr.strip())
        self._rows: dict[str, list[dict]] = dict.fromkeys(GENERATIONS, [])
        into: list[dict] = []
        for line in done.stdout.splitlines():
            if line.startswith("= "):
                into = self._rows[line[2:]] = []
            else:
                into.append(json.loads(line))
        self._generations = {g["projection"]: g["generation"] for g in self._rows["projection_generations"] if g["state"] == "live"}
        self._generations |= generations or {}

    @staticmethod
    def _rows_of(name: str) -> str:
        return f"\\echo = {name}\nSELECT row_to_json(t) FROM {name} t;"

    def rows(self, name: str) -> dict[tuple, dict]:
        found = {}
        for row in self._rows[name]:
            for column in TIMES & row.keys():
                if isinstance(row[column], str):
                    row[column] = microseconds(row[column])
            key = tuple(row[c] for c in ALL_KEYS[name])
            if key in found:
                raise AssertionError(f"{name} has {key} twice")
            found[key] = row
        return found

    def _that_count(self, name: str) -> list[dict]:
        return [row for row in self._rows[name] if row.get("generation") == self._generations.get(row["projection"], row.get("generation"))]

    def parked(self) -> list[tuple]:
        """As Fold takes it."""
        return [(p["projection"], p["parked_key"], p["sequence"], p["partition"]) for p in self._that_count("projection_parked_keys")]

    def skipped(self) -> list[tuple]:
        """As Fold takes it: events that an operator gave up."""
        return [(s["projection"], s["partition"], s["sequence"]) for s in self._rows["projection_skipped_events"]]

    def checkpoints(self) -> dict[tuple[str, int], int]:
        """As Fold takes it."""
        rows = sorted(self._that_count("projection_checkpoints"), key=lambda c: c.get("version", 0))
        return {(c["projection"], c["partition"]): c["sequence"] for c in rows}
