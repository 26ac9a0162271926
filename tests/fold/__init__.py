"""The read models, folded from exported events once more, by a program that shares no code with ours; and compared row by row.

`tables.py` folds events into rows, `views.py` computes the views from these rows, `live.py` reads what PostgreSQL has. What a column
means stands in infra/docs/READ_MODELS.md; prices are read as data, from events/pricing/prices.json.
"""
import time

from .live import ALL_KEYS, Live
from .tables import PROJECTIONS, Fold
from .views import views_of

__all__ = ["ALL_KEYS", "PROJECTIONS", "Fold", "Live", "assert_follows", "difference", "differences", "fold_of"]


def fold_of(lines, parked=(), without=(), upto=None) -> dict[str, dict]:
    """Every table and view by name: key → row. `lines`: an export, one CloudEvent a line, all types, opened (`--open`).

    parked: (projection, key, sequence of the event that could not be applied, partition), which and what comes after it wait;
    without: (projection, partition, sequence) of events that were skipped; upto: {(projection, partition): sequence}, where each
    projection stands; None: at the end."""
    fold = Fold(parked, without, upto)
    for line in lines:
        fold.take(line)
    return fold.tables() | views_of(fold)


def differences(expected: dict[str, dict], live: Live, names=None) -> list[str]:
    """What is not the same, a line each: at most 20 of a table."""
    return [line for name in names or expected for line in difference(name, expected[name], live.rows(name))[:20]]


def difference(name: str, expected: dict, actual: dict) -> list[str]:
    found = []
    for key in sorted(expected.keys() | actual.keys(), key=repr):
        if key not in actual:
            found.append(f"{name}: {key} is missing: {expected[key]}")
        elif key not in expected:
            found.append(f"{name}: {key} is too much: {actual[key]}")
        else:
            columns = expected[key].keys() | actual[key].keys()
            wrong = [f"{c}: {actual[key].get(c, 'absent')!r}, not {expected[key].get(c, 'absent')!r}" for c in sorted(columns)
                     if not same(expected[key].get(c, ...), actual[key].get(c, ...))]
            if wrong:
                found.append(f"{name}: {key}: " + "; ".join(wrong))
    return found


def same(expected, actual) -> bool:
    if isinstance(expected, float) and isinstance(actual, (int, float)):
        return abs(expected - actual) <= 1e-9 * max(1.0, abs(expected))
    return expected == actual and isinstance(expected, bool) == isinstance(actual, bool)


def assert_follows(server, database_url: str, patience: float = 30) -> dict[str, dict]:
    """The read models become what the server's log says (tests/harness.py's Server), but for what waits in parked keys or was skipped.
    Returns the fold. A log that still grows is exported again, once a second."""
    deadline = time.monotonic() + patience
    exported, lines, left_out, expected = 0.0, [], None, {}
    while True:
        try:
            if time.monotonic() - exported > 1:
                lines, left_out = server.ctl("events", "export", "--open").stdout.splitlines(), None
                exported = time.monotonic()
            live = Live(database_url)
            if left_out != (live.parked(), live.skipped()):
                left_out = live.parked(), live.skipped()
                expected = fold_of(lines, *left_out)
            wrong = differences(expected, live)
            if not wrong:
                return expected
        except ConnectionError as error:  # down, or not migrated yet
            wrong = [str(error)]
        if time.monotonic() > deadline:
            raise AssertionError("the read models are not the fold of the log:\n" + "\n".join(wrong))
        time.sleep(0.1)
