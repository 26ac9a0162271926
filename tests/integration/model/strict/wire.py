"""What all four formats have in common: a call as it was understood, what it used, a refusal, and the shape of a format."""
import dataclasses
import json
import random
import re
from typing import NamedTuple

from .prompt_cache import PromptCache, tokens_of


class Refusal(Exception):
    """An error reply of the provider: status, body, extra headers."""

    def __init__(self, status: int, body: dict, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


class Over(NamedTuple):
    """A limit that was met: which, how much it is, what is used of it, what was asked for, how long to wait."""
    meter: str
    limit: int
    used: int
    requested: int
    wait_seconds: float


@dataclasses.dataclass
class Usage:
    """In tokens. `input` and `output` hold everything; the others are parts of them."""
    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0
    reasoning: int = 0


@dataclasses.dataclass
class Call:
    model: str
    stream: bool
    system: str
    message: str
    parts: list[str]  # the prompt's texts in the order in which the provider caches them
    schema: dict | None = None
    cap: int | None = None
    include_usage: bool = True
    thinks: bool = False
    tool: str | None = None
    marks: dict[int, int] = dataclasses.field(default_factory=dict)  # place in parts → seconds it is to be cached

    @property
    def input_tokens(self) -> int:
        return sum(map(tokens_of, self.parts)) + 4 * len(self.parts)


class Streamed(NamedTuple):
    """A streamed answer's events: before the first piece, one a piece, after the last."""
    first: list[bytes]
    pieces: list[bytes]
    last: list[bytes]


class Format:
    """One provider's wire format. Errors are raised or returned as Refusals in the provider's own words."""
    name = ""
    limits: dict[str, int] = {}          # first paid tier
    windowed = True                      # no minute over the limit; else continuous refill only
    refused_calls_count = False          # a 429 is itself a request that counts
    keep_alive = b": keep-alive\n\n"
    content_type = "application/json"
    context_tokens = 128_000

    def operation(self, path: str) -> str | None: ...
    def authorise(self, headers: dict[str, str], key: str) -> None: ...
    def read(self, path: str, headers: dict[str, str], body: dict) -> Call: ...
    def cache(self, cache: PromptCache, call: Call, now: float) -> tuple[int, int]: ...
    def reservation(self, call: Call, usage: Usage) -> dict[str, int]: ...
    def afterwards(self, usage: Usage) -> dict[str, int]:
        return {}

    def rate_headers(self, meters: dict, now: float) -> dict[str, str]:
        return {}

    def invalid(self, message: str, **more) -> Refusal: ...
    def over(self, over: Over, hint: bool = True) -> Refusal: ...
    def errors(self) -> dict[str, Refusal]:
        """By the name of the fault: no_money, bad_key, error500, error503, overloaded, too_large, context, …"""
        ...

    def whole(self, call: Call, text: str, usage: Usage, finish: str) -> dict: ...
    def streamed(self, call: Call, pieces: list[str], usage: Usage, finish: str) -> Streamed: ...
    def stream_error(self) -> bytes: ...


def data(value: dict) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def event(value: dict) -> bytes:
    return b"event: " + value["type"].encode() + b"\n" + data(value)


def identifier(prefix: str) -> str:
    return f"{prefix}{random.getrandbits(96):024x}"


def is_count(value, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def strict_schema_fault(schema, context: tuple = (), depth: int = 0) -> str | None:
    """What keeps a JSON schema from being strict, as OpenAI's structured output means it. None: nothing."""
    allowed = {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "description", "title", "anyOf", "$ref",
               "$defs", "pattern", "format", "minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"}
    where = f"In context={context!r}, "
    if not isinstance(schema, dict):
        return where + "schema must be an object."
    if unknown := sorted(set(schema) - allowed):
        return where + f"'{unknown[0]}' is not permitted."
    if not set(schema) & {"type", "anyOf", "$ref", "enum", "const"}:
        return where + "schema must have a 'type' key."
    if depth > 10:
        return where + "the schema is nested too deeply."
    types = schema.get("type", [])
    types = types if isinstance(types, list) else [types]
    if wrong := [t for t in types if t not in ("object", "array", "string", "number", "integer", "boolean", "null")]:
        return where + f"{wrong[0]!r} is not valid under any of the given schemas."
    if "object" in types:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return where + "object schema missing properties."
        if schema.get("additionalProperties") is not False:
            return where + "'additionalProperties' is required to be supplied and to be false."
        required = schema.get("required")
        if not isinstance(required, list) or set(required) != set(properties):
            missing = sorted(set(properties) - set(required or []))
            return where + ("'required' is required to be supplied and to be an array including every key in properties."
                            + (f" Missing '{missing[0]}'." if missing else " Extra required key supplied."))
        for name, inner in properties.items():
            if fault := strict_schema_fault(inner, (*context, "properties", name), depth + 1):
                return fault
    if "array" in types:
        if "items" not in schema:
            return where + "array schema missing items."
        return strict_schema_fault(schema["items"], (*context, "items"), depth + 1)
    for i, inner in enumerate(schema.get("anyOf", [])):
        if fault := strict_schema_fault(inner, (*context, "anyOf", str(i)), depth + 1):
            return fault
    return None


def bearer(headers: dict[str, str]) -> str | None:
    given = headers.get("authorization", "")
    return given[7:] if re.match(r"Bearer \S", given) else None
