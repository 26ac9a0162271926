"""Migrations hold no lock for long: what would read or rewrite a table that has rows, under a lock that stops everybody, is refused here.

tests/integration/postgres runs each one beside a long reader and writer.
"""
import pathlib
import re
import unittest

SMALL = ("projection_", "model_budget_")  # the books, not the read models: a few hundred rows
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "migrations"


def statements(sql: str) -> list[str]:
    """Without comments, split at semicolons outside of quotes and $$."""
    parts = [m.group(0) for m in re.finditer(r"--[^\n]*|\$(\w*)\$.*?\$\1\$|'(?:[^']|'')*'|;|[^;'$-]+|.", sql, re.DOTALL)]
    found, now = [], ""
    for part in parts:
        if part == ";":
            found.append(now)
            now = ""
        elif not part.startswith("--"):
            now += part
    return [" ".join(s.split()) for s in [*found, now] if s.strip()]


def dangers(sql: str) -> list[str]:
    """What would hold a lock while it works through a table's rows; tables that are made or emptied in the same file have none."""
    found, fresh = [], set()
    for statement in statements(sql):
        upper = statement.upper()
        if made := re.match(r"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?(?:ONLY )?([\w.]+)", statement, re.IGNORECASE):
            fresh.add(made.group(1))
        elif emptied := re.match(r"(?:TRUNCATE|DROP)(?: TABLE)?(?: IF EXISTS)? (.+?)(?: CASCADE)?$", statement, re.IGNORECASE):
            fresh |= {name.strip() for name in emptied.group(1).split(",")}
        on = re.search(r"\bON (?:ONLY )?([\w.]+)", statement, re.IGNORECASE)
        altered = re.match(r"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?([\w.]+)", statement, re.IGNORECASE)
        why = None
        if re.match(r"CREATE (UNIQUE )?INDEX\b", upper) and on.group(1) not in fresh:
            why = "an index over a table that has rows stops who writes it: make it on a new version of the table"
        elif altered and altered.group(1) not in fresh:
            if re.search(r"\bTYPE\b", upper) and "ALTER COLUMN" in upper:
                why = "a new type rewrites the table"
            elif "SET NOT NULL" in upper:
                why = "SET NOT NULL reads the table"
            elif re.search(r"\bADD (CONSTRAINT|PRIMARY|UNIQUE|CHECK|FOREIGN|EXCLUDE)\b", upper) and "NOT VALID" not in upper:
                why = "a constraint reads the table: NOT VALID"
            elif re.search(r"\bADD COLUMN\b", upper):
                if re.search(r"DEFAULT (?:[\w.]*\()|GENERATED", upper):
                    why = "a default that is computed rewrites the table"
                elif re.search(r"NOT NULL", upper) and "DEFAULT" not in upper:
                    why = "NOT NULL without a default fails where there are rows"
                elif re.search(r"\bREFERENCES\b|\bUNIQUE\b|\bPRIMARY\b", upper):
                    why = "a constraint reads the table"
            elif re.search(r"SET (LOGGED|UNLOGGED|TABLESPACE|ACCESS METHOD)", upper):
                why = "it rewrites the table"
            elif "ATTACH PARTITION" in upper:
                why = "attaching reads the rows: make the partition empty"
        elif re.match(r"(VACUUM FULL|CLUSTER|LOCK|REINDEX|REFRESH MATERIALIZED)\b", upper):
            why = "it locks the table while it works"
        elif changed := re.match(r"(?:UPDATE (?:ONLY )?|DELETE FROM (?:ONLY )?)([\w.]+)", statement, re.IGNORECASE):
            if changed.group(1) not in fresh and " WHERE " not in upper:
                why = "it changes every row in one transaction"
        table = altered or on
        if why and not (table and table.group(1).startswith(SMALL)):
            found.append(f"{statement[:80]}: {why}")
    return found


class Migrations(unittest.TestCase):
    def test_none_holds_a_lock_while_it_works_through_rows(self):
        wrong = [f"{file.name}: {danger}" for file in sorted(FOLDER.glob("*.sql")) for danger in dangers(file.read_text())]
        self.assertEqual(wrong, [])

    def test_the_dangerous_ones_are_found(self):
        for bad in ("CREATE INDEX a ON users (b)", "CREATE UNIQUE INDEX a ON ONLY users (b)", "ALTER TABLE users ALTER COLUMN a TYPE bigint",
                    "ALTER TABLE users ALTER a SET NOT NULL", "ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0)", "ALTER TABLE users ADD COLUMN a uuid DEFAULT gen_random_uuid()",
                    "ALTER TABLE users ADD COLUMN a text NOT NULL", "ALTER TABLE users ADD PRIMARY KEY (a)", "VACUUM FULL users", "LOCK TABLE users", "UPDATE users SET a = 1",
                    "DELETE FROM users", "ALTER TABLE users ATTACH PARTITION p FOR VALUES IN (1)", "-- ; harmless\nDO $$ BEGIN; END $$; DELETE FROM users"):
            self.assertEqual(len(dangers(bad)), 1, bad)

    def test_the_harmless_ones_are_not(self):
        for good in ("CREATE TABLE a (b text); CREATE INDEX c ON a (b); ALTER TABLE a ADD CONSTRAINT d CHECK (b <> '')", "TRUNCATE users, b; CREATE INDEX c ON users (d)",
                     "ALTER TABLE users ADD COLUMN a bigint NOT NULL DEFAULT 0", "ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT VALID", "DELETE FROM users WHERE a = 1",
                     "DROP TABLE users; CREATE TABLE users (a text); CREATE INDEX i ON users (a)", "-- UPDATE users SET a = 1\nSELECT 'LOCK; TABLE'",
                     "ALTER TABLE projection_checkpoints ADD PRIMARY KEY (a, b)"):
            self.assertEqual(dangers(good), [], good)


if __name__ == "__main__":
    unittest.main()
