"""Where people leave: the funnel of a flow, from an export of the log.

    onboardctl events export --output events.ndjson.zst --zstd
    infra/dev/analysis infra/docs/analysis/funnel.py events.ndjson.zst funnel.png

The cells (# %%) run one by one in Jupyter, VS Code or Spyder, too. Nothing personal is needed: texts stay sealed, the funnel is made of types,
field names and times.
"""
# %% What to read, and where the picture goes
import json
import sys

import duckdb
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

EXPORT, PICTURE = (sys.argv[1:] + ["events.ndjson.zst", "funnel.png"][len(sys.argv) - 1:])[:2]
FLOW = "default"

# %% An event a row. `data` stays JSON: each type has its own members.
events = duckdb.connect()
events.execute(
    """CREATE TABLE events AS
       SELECT type, subject AS session, time::TIMESTAMPTZ AS time, version, data
         FROM read_json(?, format = 'newline_delimited', compression = ?,
                        columns = {type: 'VARCHAR', subject: 'VARCHAR', time: 'VARCHAR', version: 'BIGINT', data: 'JSON'})""",
    [EXPORT, "zstd" if EXPORT.endswith(".zst") else "uncompressed"])

# %% The flow's fields in their order: of its newest version
definitions = events.execute("SELECT data->>'definition' FROM events WHERE type = 'FlowPublished' AND (data->>'name') = ? ORDER BY version", [FLOW]).fetchall()
if not definitions:
    sys.exit(f"{EXPORT} has no flow {FLOW}: export all types, from the beginning")
fields = [field["name"] for field in json.loads(definitions[-1][0])["fields"]]

# %% Which session was asked for which field, and which fields it has. What was told without being asked counts as asked.
events.execute(
    """CREATE TABLE sessions AS
       SELECT session, min(time) AS began, bool_or(type = 'SessionCompleted') AS completed,
              min(time) FILTER (WHERE type = 'SessionCompleted') AS ended
         FROM events WHERE session IN (SELECT session FROM events WHERE type = 'SessionStarted' AND (data->>'flow') = ?) GROUP BY session""", [FLOW])
events.execute(
    """CREATE TABLE told AS  -- the last word on a field counts: a value, or that it was declined
       SELECT session, data->>'field' AS field, arg_max(type, version) <> 'FieldDeclined' AS filled
         FROM events WHERE type IN ('FieldExtracted', 'FieldCorrected', 'FieldDeclined') GROUP BY ALL""")
events.execute(
    """CREATE TABLE asked AS
       SELECT DISTINCT session, unnest(from_json(data->'asks', '["VARCHAR"]')) AS field
         FROM events WHERE type IN ('SessionStarted', 'AssistantReplied') AND (data->'asks') IS NOT NULL
       UNION SELECT session, field FROM told""")


def sessions_of(table: str, field: str, condition: str = "true") -> int:
    return events.execute(f"SELECT count(*) FROM {table} JOIN sessions USING (session) WHERE field = ? AND {condition}", [field]).fetchone()[0]


started, completed = events.execute("SELECT count(*), count(*) FILTER (WHERE completed) FROM sessions").fetchone()
steps = [("started", started)]
for field in fields:
    steps += [(f"asked {field}", sessions_of("asked", field)), (f"filled {field}", sessions_of("told", field, "filled"))]
steps.append(("completed", completed))

# %% The picture
names, counts = zip(*steps)
minutes = [row[0] for row in events.execute("SELECT epoch(ended - began) / 60 FROM sessions WHERE completed ORDER BY 1").fetchall()]
figure, (funnel, times) = plt.subplots(1, 2, figsize=(13, 6), width_ratios=(3, 2), layout="constrained")
colours = ["#33658a" if name in ("started", "completed") else "#86bbd8" if name.startswith("asked") else "#758e4f" for name in names]
bars = funnel.barh(names, counts, color=colours)
funnel.bar_label(bars, [f"{count}  ({count / max(1, started):.0%})" for count in counts], padding=4)
funnel.invert_yaxis()
funnel.set_xlim(0, 1.2 * max(1, started))
funnel.set_xlabel("sessions")
funnel.set_title(f"The flow “{FLOW}”: from {started} starts to {completed} completions")
if minutes:
    times.plot(minutes, [(n + 1) / len(minutes) for n in range(len(minutes))], drawstyle="steps-post", color="#33658a")
    middle = minutes[(len(minutes) - 1) // 2]
    times.axvline(middle, color="#f26419", linestyle="--", label=f"half within {middle:.2g} minutes")
    times.legend(loc="lower right")
times.set_ylim(0, 1.02)
times.set_xlim(left=0)
times.set_xlabel("minutes from start to completion")
times.set_ylabel("share of the completed")
times.set_title("How long it takes")
for axes in (funnel, times):
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig(PICTURE, dpi=110)

# %% The same as numbers
print(json.dumps({"flow": FLOW, "steps": [{"name": name, "sessions": count} for name, count in steps]}))
