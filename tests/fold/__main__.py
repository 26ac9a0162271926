"""Compares the read models with a fold of the log, row by row.

    build/onboardctl events export --open | python3 -m tests.fold --database URL -
    python3 -m tests.fold --database URL events.ndjson --at-checkpoints

Exit codes: 0 equal, 1 different (what differs is on stdout), 2 wrong use.
"""
import argparse
import sys

from . import Live, differences, fold_of
from .live import ALL_KEYS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.fold", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", required=True, metavar="URL", help="as postgres.url")
    parser.add_argument("--schema", default="public", help="where the tables lie (default: public, the live ones)")
    parser.add_argument("--only", action="append", choices=sorted(ALL_KEYS), metavar="TABLE", help="this table or view; may be repeated")
    parser.add_argument("--at-checkpoints", action="store_true", help="only the events that the projections' checkpoints have passed")
    parser.add_argument("--generation", action="append", default=[], metavar="PROJECTION=N", help="whose checkpoints and parked keys count, when not the live one's")
    parser.add_argument("export", help="of all events, opened: onboardctl events export --open; - is standard input")
    options = parser.parse_args()
    generations = {}
    for text in options.generation:
        projection, _, number = text.partition("=")
        if not number.isdigit():
            parser.error(f"--generation {text}: not PROJECTION=N")
        generations[projection] = int(number)
    try:
        live = Live(options.database, options.schema, options.only, generations)
        with sys.stdin if options.export == "-" else open(options.export, encoding="utf-8") as lines:
            expected = fold_of(lines, live.parked(), live.skipped(), live.checkpoints() if options.at_checkpoints else None)
    except (OSError, ValueError) as error:
        print(f"tests.fold: {error}", file=sys.stderr)
        return 2
    wrong = differences(expected, live, options.only)
    print("\n".join(wrong) if wrong else "equal: " + ", ".join(f"{len(live.rows(name))} {name}" for name in live.names))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
