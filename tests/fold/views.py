"""The views, from the folded rows."""
import collections

VIEW_KEYS = {"session_facts": ("session_id",), "session_fields": ("session_id", "field"), "completion_by_day": ("day", "flow", "flow_version"),
             "time_to_complete": ("flow", "flow_version"), "abandonment_by_field": ("flow", "flow_version", "field"),
             "message_buckets": ("flow", "flow_version", "bucket"), "quality_by_day": ("day", "flow", "flow_version"),
             "funnel": ("flow", "flow_version", "step")}
FACTS = ("user_key", "vouched", "status", "erased", "flow", "flow_version", "variant", "plan", "locale", "created_at", "updated_at",
         "completed_at", "abandoned_at", "total_messages_count")
ANALYSED = ("abandonment_at_field", "asked_fields", "filled_fields", "questions_asked", "fields_reasked", "user_messages", "replies",
            "fallback_replies", "turns_queued", "turns_failed", "llm_calls", "llm_calls_failed", "input_tokens", "output_tokens",
            "cost_nanodollars", "unpriced_calls", "abandonments", "resumes")
RATES = {"extraction_rate": ("asked_fields_filled", "fields_asked"), "reask_rate": ("fields_reasked", "questions_asked"),
         "validation_failure_rate": ("values_rejected", "values_said"), "fallback_rate": ("fallback_replies", "replies"),
         "failed_turn_rate": ("turns_failed", "replies"), "failed_call_rate": ("llm_calls_failed", "llm_calls")}
SUMS = ("fields_asked", "asked_fields_filled", "questions_asked", "fields_reasked", "values_said", "values_rejected", "replies",
        "fallback_replies", "turns_failed", "llm_calls", "llm_calls_failed")


def ratio(part, whole):
    return part / whole if whole else None


def mean(numbers):
    return ratio(sum(numbers), len(numbers))


def percentile(numbers, share: float):
    """Between the two nearest, as percentile_cont has it."""
    if not numbers:
        return None
    ordered = sorted(numbers)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def bucket_of(count: int) -> str:
    return "<8" if count < 8 else "8-10" if count <= 10 else "11-15" if count <= 15 else ">15"


def grouped(rows, *columns) -> dict[tuple, list[dict]]:
    groups = collections.defaultdict(list)
    for row in rows:
        groups[tuple(row[c] for c in columns)].append(row)
    return groups


def session_facts(fold) -> list[dict]:
    from .tables import COUNTS, day_of
    nothing = dict.fromkeys(ANALYSED) | dict.fromkeys(COUNTS)
    facts = []
    for (session_id,), row in fold.rows["onboarding_sessions"].items():
        analysed = fold.rows["session_analytics"].get((session_id,), nothing)
        completed = row["status"] == "completed"
        asked, filled = analysed["asked_fields"] or {}, analysed["filled_fields"] or {}
        corrected = analysed["fields_corrected"]
        facts.append({"session_id": session_id} | {c: row[c] for c in FACTS} | {c: analysed[c] for c in ANALYSED} | {
            "day": None if row["created_at"] is None else day_of(row["created_at"]),
            "minutes_to_complete": (row["completed_at"] - row["created_at"]) / 60e6 if completed else None,
            "message_bucket": bucket_of(row["total_messages_count"]) if completed else None,
            "fields_asked": len(asked), "asked_fields_filled": sum(filled.get(f) is True for f in asked),
            "values_said": None if corrected is None else analysed["fields_extracted"] + corrected + analysed["fields_rejected"],
            "values_rejected": analysed["fields_rejected"]})
    return facts


def session_fields(facts) -> list[dict]:
    rows = []
    for s in facts:
        if s["asked_fields"] is None:
            continue
        here = s["abandonment_at_field"]
        for field in s["asked_fields"].keys() | s["filled_fields"].keys() | ({here} if here else set()):
            rows.append({c: s[c] for c in ("session_id", "flow", "flow_version", "day", "created_at", "status")} | {
                "field": field, "asked": field in s["asked_fields"], "filled": s["filled_fields"].get(field) is True,
                "declined": s["filled_fields"].get(field) is False, "abandoned_here": field == here})
    return rows


def times(sessions) -> dict:
    minutes = [s["minutes_to_complete"] for s in sessions if s["minutes_to_complete"] is not None]
    return {"avg_minutes": mean(minutes), "p50_minutes": percentile(minutes, 0.5), "p90_minutes": percentile(minutes, 0.9),
            "p99_minutes": percentile(minutes, 0.99)}


def completion_by_day(facts) -> list[dict]:
    rows = []
    for (day, flow, version), sessions in grouped(facts, "day", "flow", "flow_version").items():
        by_status = collections.Counter(s["status"] for s in sessions)
        rows.append({"day": day, "flow": flow, "flow_version": version, "started": len(sessions), "completed": by_status["completed"],
                     "abandoned": by_status["abandoned"], "active": by_status["active"],
                     "completion_rate": by_status["completed"] / len(sessions)} | times(sessions))
    return rows


def quality_by_day(facts) -> list[dict]:
    rows = []
    for (day, flow, version), sessions in grouped(facts, "day", "flow", "flow_version").items():
        sums = {c: sum(s[c] or 0 for s in sessions) for c in SUMS}
        rows.append({"day": day, "flow": flow, "flow_version": version, "sessions": len(sessions)} | sums |
                    {rate: ratio(sums[part], sums[whole]) for rate, (part, whole) in RATES.items()})
    return rows


def abandonment_by_field(fields) -> list[dict]:
    rows = []
    for (flow, version), of_flow in grouped(fields, "flow", "flow_version").items():
        abandoned_in_all = sum(f["abandoned_here"] for f in of_flow)
        for (field,), of_field in grouped(of_flow, "field").items():
            asked, abandoned = sum(f["asked"] for f in of_field), sum(f["abandoned_here"] for f in of_field)
            rows.append({"flow": flow, "flow_version": version, "field": field, "asked": asked, "abandoned": abandoned,
                         "share_of_abandoned": ratio(abandoned, abandoned_in_all),
                         "share_of_asked": ratio(sum(f["asked"] and f["abandoned_here"] for f in of_field), asked)})
    return rows


def message_buckets(facts) -> list[dict]:
    rows = []
    for (flow, version), completed in grouped((s for s in facts if s["message_bucket"]), "flow", "flow_version").items():
        for (bucket,), sessions in grouped(completed, "message_bucket").items():
            rows.append({"flow": flow, "flow_version": version, "bucket": bucket, "sessions": len(sessions),
                         "share": len(sessions) / len(completed), "avg_messages": mean([s["total_messages_count"] for s in sessions])})
    return rows


def funnel(facts, fields, flow_fields) -> list[dict]:
    rows = []
    for (flow, version), sessions in grouped(facts, "flow", "flow_version").items():
        told = grouped((f for f in fields if (f["flow"], f["flow_version"]) == (flow, version)), "field")
        steps = [("started", None, len(sessions))]
        for (_, _, _), row in sorted((key, row) for key, row in flow_fields.items() if key[:2] == (flow, version)):
            of_field = told.get((row["field"],), [])
            steps.append(("asked", row["field"], sum(f["asked"] or f["filled"] or f["declined"] for f in of_field)))
            steps.append(("filled", row["field"], sum(f["filled"] for f in of_field)))
        steps.append(("completed", None, sum(s["status"] == "completed" for s in sessions)))
        rows += [{"flow": flow, "flow_version": version, "step": i, "name": name, "field": field, "sessions": count,
                  "share_of_started": count / len(sessions)} for i, (name, field, count) in enumerate(steps)]
    return rows


def views_of(fold) -> dict[str, dict]:
    facts = session_facts(fold)
    fields = session_fields(facts)
    rows = {"session_facts": facts, "session_fields": fields, "completion_by_day": completion_by_day(facts),
            "time_to_complete": [{"flow": flow, "flow_version": version, "completed": len(sessions)} | times(sessions) for (flow, version), sessions
                                 in grouped((s for s in facts if s["status"] == "completed"), "flow", "flow_version").items()],
            "abandonment_by_field": abandonment_by_field(fields), "message_buckets": message_buckets(facts), "quality_by_day": quality_by_day(facts),
            "funnel": funnel(facts, fields, fold.rows["flow_fields"])}
    return {name: {tuple(row[c] for c in VIEW_KEYS[name]): row for row in rows[name]} for name in VIEW_KEYS}
