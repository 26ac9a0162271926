"""The model: a few honest rules, enough to hold an onboarding conversation. It says only what the last message said."""
import functools
import json
import re

NUMBER_WORDS = ("one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty seventy eighty ninety hundred".split())
NAME = r"[A-ZÀ-Þ][\w'’-]*(?:[ -][A-ZÀ-Þ][\w'’-]*)*"
PATTERNS = {field: [re.compile(p) for p in patterns] for field, patterns in {
    "full_name": [rf"(?:[Mm]y name is|[Mm]y name's|I'm called|[Cc]all me|[Nn]ame: ?|it's|It's|I am|I'm) ({NAME})"],
    "email": [r"([^\s@<>,;:]+@[^\s@<>,;]+\.[A-Za-z]{2,})", r"([\w.+-]+ at [\w-]+ dot \w+)"],
    "company": [rf"(?:work (?:at|for)|[Ff]rom|[Cc]ompany(?: is|:)|I'm (?:at|with)|am (?:at|with)|, at|here at) ((?:{NAME}|[&.\d]+)(?: (?:{NAME}|&|of))*)"],
    "role": [r"(?:I'm|I am|[Ww]ork as|[Rr]ole is|[Rr]ole:) (?:an?|the) ([a-z][a-z -]+?)(?= (?:at|from|for|with|in|and)\b|[.,;!]|$)"],
    "team_size": [r"(\d[\d,]*)(?= (?:people|of us|employees|persons|colleagues|in (?:the|our|my) team))",
                  r"(?i)\b(" + "|".join(NUMBER_WORDS) + r")(?= (?:people|of us|employees|persons|colleagues))", r"(?:team size(?: is|:)|team of) (\d+)"],
    "goal": [r"(?:want to|goal is to|goal is|goal:|hope to|need to|looking to|like to) (.+?)[.!]?$"],
}.items()}
NO_ANSWER = re.compile(r"^(?:hi|hello|hey|good (?:morning|evening)|thanks?|thank you|ok(?:ay)?|yes|no)\b", re.IGNORECASE)


def extract(message: str, fields: list[str], asked: list[str]) -> dict[str, str]:
    found = {}
    for name in fields:
        for pattern in PATTERNS.get(name, ()):
            if match := pattern.search(message):
                found[name] = match.group(1).strip()
                break
    if found.get("full_name") and found["full_name"] == found.get("company"):
        del found["full_name"]
    # A bare answer belongs to what was asked.
    bare = message.strip().rstrip(".!")
    if not found and asked and bare and "?" not in bare and len(bare) < 200 and not NO_ANSWER.match(bare):
        found[asked[0]] = bare
    return found


@functools.lru_cache(4096)
def documents_of(line: str) -> list:
    """The JSON objects and lists of objects that a line of a prompt holds."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while match := re.compile(r"[\[{]").search(line, at):
        try:
            value, at = decoder.raw_decode(line, match.start())
        except ValueError:
            at = match.start() + 1
        else:
            found.append(value)
    return found


def turn_of(system: str) -> tuple[list[str], list[str] | None, list[str]]:
    """What the prompt says in JSON: names of fields, which are open (None: it does not say), which were asked for."""
    fields, still_open, asked = [], None, []
    for line in system.split("\n"):
        if "{" not in line:
            continue
        for value in documents_of(line):
            if isinstance(value, dict) and isinstance(value.get("open"), list):
                still_open, asked = value["open"], value.get("asked_last") or []
            elif isinstance(value, list) and value and all(isinstance(f, dict) and "name" in f for f in value):
                fields = [f["name"] for f in value]
    return fields, still_open, asked or (still_open or [])[:1]


def answer(system: str, message: str, schema: dict | None) -> dict:
    told, still_open, asked = turn_of(system)
    shape = (schema or {}).get("properties", {}).get("fields", {})
    fields = list(shape.get("properties", {})) or told
    given = extract(message, fields, asked)
    left = [f for f in (fields if still_open is None else still_open) if f not in given]
    reply = ("Thank you. " if given else "") + (f"Could you tell me your {left[0].replace('_', ' ')}?" if left else "That is all I need.")
    required = shape.get("required", [])
    return {"reply": reply, "fields": {f: given.get(f) for f in fields if f in given or f in required}, "asks": left[:1]}
