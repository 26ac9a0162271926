"""Events into rows. One method per event type and projection; a row is a dict of its columns."""
import datetime
import json
import re

from .prices import cost_nanodollars

ERASED = "[erased]"
# projection → its tables
PROJECTIONS = {"profile": ("users", "user_profiles"), "sessions": ("onboarding_sessions", "session_analytics", "turn_outcomes"),
               "conversation": ("conversation_messages",), "usage": ("token_usage",), "flows": ("flow_fields",)}
KEYS = {"users": ("user_key",), "user_profiles": ("user_key",), "onboarding_sessions": ("session_id",), "session_analytics": ("session_id",),
        "turn_outcomes": ("minute",), "conversation_messages": ("session_id", "version", "user_key"),
        "token_usage": ("day", "provider", "model", "plan"), "flow_fields": ("flow", "flow_version", "place")}

SESSION = {"user_id": None, "user_key": None, "vouched": False, "status": "active", "erased": False, "flow": None, "flow_version": None,
           "variant": "", "plan": "", "locale": "", "created_at": None, "updated_at": None, "completed_at": None, "abandoned_at": None,
           "total_messages_count": 0}
COUNTS = ("user_messages", "replies", "fields_extracted", "fields_corrected", "fields_rejected", "fields_declined", "fields_reasked",
          "turns_queued", "turns_failed", "fallback_replies", "llm_calls", "llm_calls_failed", "abandonments", "resumes",
          "questions_asked", "input_tokens", "output_tokens", "cost_nanodollars", "unpriced_calls")
USAGE = ("calls", "failed_calls", "unreported_calls", "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens",
         "reasoning_tokens", "latency_ms", "cost_nanodollars", "unpriced_calls")


def microseconds(text: str) -> int:
    """Of a time, since 1970 UTC."""
    moment = datetime.datetime.fromisoformat(text)
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(microseconds=1)


def day_of(time: int) -> str:
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=time // 86_400_000_000)).isoformat()


class Event:
    def __init__(self, line: str) -> None:
        told = json.loads(line)
        self.type, self.stream, self.data = told["type"], told["subject"], told["data"]
        self.partition, self.sequence, self.version = told["partition"], int(told["sequence"]), told["version"]
        self.time, self.user, self.plan = microseconds(told["time"]), told.get("userkey"), told.get("plan", "")
        self.position = f"{self.partition}:{self.sequence}"

    def text(self, member: str):
        """A personal text; None once it is gone."""
        text = self.data.get(member, "")
        if text == "[sealed]":
            raise ValueError(f"event {self.position}: {member} is sealed; export with --open")
        return None if text == ERASED else text


class Fold:
    def __init__(self, parked=(), without=(), upto=None) -> None:
        self.parked = {(projection, key, partition): sequence for projection, key, sequence, partition in parked}
        self.without, self.upto = set(without), upto
        self.heads: dict[int, int] = {}
        self.rows: dict[str, dict] = {table: {} for table in KEYS}

    def take(self, line: str) -> None:
        """The next line of the export. One that was taken before is passed over; one that is missing is an error."""
        if not line.strip():
            return
        event = Event(line)
        head = self.heads.get(event.partition, 0)
        if event.sequence <= head:
            return
        if event.sequence != head + 1:
            raise ValueError(f"the export is not whole: {event.position} follows {event.partition}:{head}")
        self.heads[event.partition] = event.sequence
        snake = re.sub(r"(?<!^)(?=[A-Z])", "_", event.type).lower()
        for projection in PROJECTIONS:
            act = getattr(self, f"{projection}_{snake}", None)
            if act and not self.waits(projection, event):
                act(event)

    def waits(self, projection: str, event: Event) -> bool:
        if self.upto is not None and event.sequence > self.upto.get((projection, event.partition), 0):
            return True
        keys = (event.user, "stream/" + event.stream)
        parked_from = [self.parked[projection, k, event.partition] for k in keys if (projection, k, event.partition) in self.parked]
        return any(event.sequence >= s for s in parked_from) or (projection, event.partition, event.sequence) in self.without

    def tables(self) -> dict[str, dict]:
        """name → key → row with all its columns."""
        return {name: {key: dict(zip(KEYS[name], key)) | row for key, row in rows.items()} for name, rows in self.rows.items()}

    # ---- profile
    def profile_session_started(self, e: Event) -> None:
        users, profiles = self.rows["users"], self.rows["user_profiles"]
        who = {"user_id": e.text("user_id"), "vouched": e.data.get("vouched", False)}
        user = users.setdefault((e.user,), {"sessions_started": 0, "created_at": e.time, "last_started_at": e.time})
        user |= who
        user["sessions_started"] += 1
        user["created_at"] = min(user["created_at"], e.time)
        user["last_started_at"] = max(user["last_started_at"], e.time)
        profile = self.changed_profile(e)
        profile |= who
        profile["created_at"] = e.time if profile["created_at"] is None else min(profile["created_at"], e.time)

    def changed_profile(self, e: Event) -> dict:
        profile = self.rows["user_profiles"].setdefault((e.user,), {"user_id": None, "vouched": False, "fields": {}, "field_types": {},
                                                                    "created_at": None, "updated_at": e.time})
        profile["updated_at"] = max(profile["updated_at"], e.time)
        profile["position"] = e.position
        return profile

    def profile_field_extracted(self, e: Event) -> None:
        value = e.text("value")
        if value is not None:  # else the person was erased since, and the row with them
            self.learn(e, value, e.data["value_type"])

    profile_field_corrected = profile_field_extracted

    def profile_field_declined(self, e: Event) -> None:
        self.learn(e, None, None)

    def learn(self, e: Event, value, type_name) -> None:
        profile = self.changed_profile(e)
        profile["fields"][e.data["field"]] = value
        profile["field_types"][e.data["field"]] = type_name

    def profile_user_erased(self, e: Event) -> None:
        for table in PROJECTIONS["profile"]:
            self.rows[table].pop((e.user,), None)

    # ---- sessions
    def touched(self, e: Event) -> dict:
        row = self.rows["onboarding_sessions"].setdefault((e.stream,), dict(SESSION, updated_at=e.time))
        row["updated_at"] = max(row["updated_at"], e.time)
        return row

    def counted(self, e: Event, **more: int) -> dict:
        fresh = {"flow": None, "flow_version": None, "created_at": None, "abandonment_at_field": None, "asked_fields": {}, "filled_fields": {}}
        row = self.rows["session_analytics"].get((e.stream,))
        if row is None:
            row = self.rows["session_analytics"][(e.stream,)] = fresh | dict.fromkeys(COUNTS, 0)
        for column, by in more.items():
            row[column] += by
        return row

    def sessions_session_started(self, e: Event) -> None:
        d = e.data
        row = self.touched(e)
        row |= {"user_id": e.text("user_id"), "user_key": e.user, "vouched": d.get("vouched", False), "status": "active", "flow": d["flow"],
                "flow_version": d["flow_version"], "variant": d.get("variant", ""), "plan": d.get("plan", ""), "locale": d.get("locale", ""),
                "created_at": e.time}
        self.asked(self.counted(e), d) .update(flow=d["flow"], flow_version=d["flow_version"], created_at=e.time)

    @staticmethod
    def asked(row: dict, data: dict) -> dict:
        for field in data.get("asks", ()):
            row["asked_fields"][field] = True
            row["questions_asked"] += 1
        return row

    def message(self, e: Event) -> None:
        row = self.touched(e)
        if row["completed_at"] is None:
            row["total_messages_count"] += 1

    def sessions_message_received(self, e: Event) -> None:
        self.message(e)
        self.counted(e, user_messages=1)

    def sessions_assistant_replied(self, e: Event) -> None:
        self.message(e)
        self.asked(self.counted(e, replies=1, fallback_replies=e.data["source"] in ("offline", "none")), e.data)
        self.outcome(e, "turns")

    def outcome(self, e: Event, column: str) -> None:
        self.rows["turn_outcomes"].setdefault((e.time - e.time % 60_000_000,), {"turns": 0, "failed": 0})[column] += 1

    def sessions_turn_failed(self, e: Event) -> None:
        self.counted(e, turns_failed=1)
        self.outcome(e, "failed")

    def sessions_turn_queued(self, e: Event) -> None:
        self.counted(e, turns_queued=1)

    def sessions_field_extracted(self, e: Event) -> None:
        self.counted(e, fields_extracted=1)["filled_fields"][e.data["field"]] = True

    def sessions_field_corrected(self, e: Event) -> None:
        self.counted(e, fields_corrected=1)["filled_fields"][e.data["field"]] = True

    def sessions_field_declined(self, e: Event) -> None:
        self.counted(e, fields_declined=1)["filled_fields"][e.data["field"]] = False

    def sessions_field_rejected(self, e: Event) -> None:
        self.counted(e, fields_rejected=1)

    def sessions_field_reasked(self, e: Event) -> None:
        self.counted(e, fields_reasked=1)

    def sessions_llm_call_succeeded(self, e: Event, failed: int = 0) -> None:
        usage, cost = e.data.get("usage", {}), cost_of(e)
        self.counted(e, llm_calls=1, llm_calls_failed=failed, input_tokens=max(usage.get("input_tokens", 0), 0),
                     output_tokens=max(usage.get("output_tokens", 0), 0), cost_nanodollars=cost or 0, unpriced_calls=cost is None)

    def sessions_llm_call_failed(self, e: Event) -> None:
        self.sessions_llm_call_succeeded(e, failed=1)

    def sessions_session_completed(self, e: Event) -> None:
        row = self.touched(e)
        row["status"] = "completed"
        if row["completed_at"] is None:
            row["completed_at"] = e.time

    def sessions_session_abandoned(self, e: Event) -> None:
        self.touched(e).update(status="abandoned", abandoned_at=e.time)
        self.counted(e, abandonments=1)["abandonment_at_field"] = e.data.get("at_field") or None

    def sessions_session_resumed(self, e: Event) -> None:
        self.touched(e).update(status="active", abandoned_at=None)
        self.counted(e, resumes=1)["abandonment_at_field"] = None

    def sessions_user_erased(self, e: Event) -> None:
        self.touched(e).update(user_id=None, erased=True)

    # ---- conversation
    def said(self, e: Event, role: str, member: str) -> None:
        text = e.text(member)
        if text is not None:
            self.rows["conversation_messages"][e.stream, e.version, e.user] = {
                "timestamp": e.time, "role": role, "turn_id": e.data.get("turn_id"), "text": text, "source": e.data.get("source"),
                "error": e.data.get("error", False)}

    def conversation_session_started(self, e: Event) -> None:
        self.said(e, "assistant", "greeting")

    def conversation_message_received(self, e: Event) -> None:
        self.said(e, "user", "text")

    def conversation_assistant_replied(self, e: Event) -> None:
        self.said(e, "assistant", "text")

    def conversation_user_erased(self, e: Event) -> None:
        messages = self.rows["conversation_messages"]
        for key in [key for key in messages if key[0] == e.stream and key[2] == e.user]:
            del messages[key]

    # ---- usage
    def usage_llm_call_succeeded(self, e: Event, failed: int = 0) -> None:
        usage, cost = e.data.get("usage", {}), cost_of(e)
        key = day_of(e.time), e.data["provider"], e.data.get("model", ""), e.plan
        row = self.rows["token_usage"].setdefault(key, dict.fromkeys(USAGE, 0))
        row["calls"] += 1
        row["failed_calls"] += failed
        row["unreported_calls"] += usage.get("input_tokens", -1) < 0 and usage.get("output_tokens", -1) < 0
        row["latency_ms"] += e.data["latency_ms"]
        row["cost_nanodollars"] += cost or 0
        row["unpriced_calls"] += cost is None
        for column in ("input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"):
            row[column] += max(usage.get(column, 0), 0)

    def usage_llm_call_failed(self, e: Event) -> None:
        self.usage_llm_call_succeeded(e, failed=1)

    # ---- flows
    def flows_flow_published(self, e: Event) -> None:
        for place, field in enumerate(json.loads(e.data["definition"])["fields"], 1):
            self.rows["flow_fields"][e.data["name"], e.data["version"], place] = {
                "field": field["name"], "type": field["type"], "required": field.get("required", True)}


def cost_of(e: Event):
    return cost_nanodollars(e.data["provider"], e.data.get("model", ""), e.data.get("usage", {}), e.time)
