"""What a call cost, from the price table's own words (events/pricing/README.md)."""
import datetime
import functools
import json
import pathlib
import re
from decimal import Decimal

MOST_TOKENS = 1_000_000_000


@functools.cache
def table() -> dict:
    return json.loads((pathlib.Path(__file__).resolve().parents[2] / "events/pricing/prices.json").read_text())


def names(entry: dict, model: str) -> int:
    """How well an entry's names fit: longer is better, the model's very own name is best; 0: not."""
    best = 0
    for name in [entry["model"], *entry.get("also", ())]:
        if name == model:
            best = max(best, 10_000 + len(name))
        elif name == "*":
            best = max(best, 1)
        elif re.fullmatch(re.escape(name) + r"-[-0-9]{3,}", model):
            best = max(best, len(name) + 1)
    return best


def holds(band: dict, moment: datetime.datetime) -> bool:
    return (moment.isoweekday() in band["weekdays"] and moment.date().isoformat() not in band.get("except_dates", ())
            and any(first <= moment.hour < last for first, last in band["hours_utc"]))


def cost_nanodollars(provider: str, model: str, usage: dict, time: int):
    """None: not known. `time`: microseconds since 1970."""
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(microseconds=time)
    fitting = [(names(entry, model), entry.get("from", "1970-01-01"), i) for i, entry in enumerate(table()["models"])
               if entry["provider"] == provider and names(entry, model) and entry.get("from", "1970-01-01") <= moment.date().isoformat()]
    if not fitting:
        return None
    entry = table()["models"][max(fitting, key=lambda f: f[:2])[2]]
    taken, written = usage.get("input_tokens", -1), usage.get("output_tokens", -1)
    if entry["model"] == "*" and taken < 0 and written < 0:
        return 0
    if not (0 <= taken <= MOST_TOKENS and 0 <= written <= MOST_TOKENS):
        return None
    price = [p for p in entry["prices"] if taken > p.get("above_prompt_tokens", -1) and ("band" not in p or holds(table()["bands"][p["band"]], moment))][-1]
    each = {"input": price["input"], "output": price["output"], "cached": price.get("cached", price["input"]), "write": price.get("write", price["input"])}
    each["write_1h"] = price.get("write_1h", each["write"])
    pico = {name: int(Decimal(dollars) * 1_000_000) for name, dollars in each.items()}
    cached = min(max(usage.get("cached_input_tokens", 0), 0), taken)
    to_cache = min(max(usage.get("cache_write_tokens", 0), 0), taken - cached)
    raw = usage.get("raw", "")
    hour = json.loads(raw).get("cache_creation", {}).get("ephemeral_1h_input_tokens", 0) if "ephemeral_1h_input_tokens" in raw else 0
    hour = min(max(hour, 0), to_cache)
    return ((taken - cached - to_cache) * pico["input"] + cached * pico["cached"] + (to_cache - hour) * pico["write"] + hour * pico["write_1h"]
            + written * pico["output"] + 500) // 1000
