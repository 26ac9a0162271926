"""A provider's limits, by its own arithmetic. Time is handed in, in seconds, and never goes back."""
import collections
import math


class Meter:
    """What was taken in the last `seconds`, and whether more may be.

    Two rules, each on or off: no window of `seconds` ever holds more than the limit; and a bucket with continuous refill that
    holds `burst_seconds` of it, full at the start. Limit 0: nothing is refused, only counted.
    """

    def __init__(self, limit: float, now: float, seconds: float = 60, window: bool = True, burst_seconds: float = 60) -> None:
        self.limit, self.seconds, self.window = limit, seconds, window
        self.capacity = limit * min(burst_seconds, seconds) / seconds
        self.rate = limit / seconds
        self.level, self.at = self.capacity, now
        self.taken: collections.deque[tuple[float, float]] = collections.deque()
        self.used = self.total = self.peak = 0.0

    def _advance(self, now: float) -> None:
        self.level = min(self.capacity, self.level + (now - self.at) * self.rate)
        self.at = now
        while self.taken and self.taken[0][0] <= now - self.seconds:
            self.used -= self.taken.popleft()[1]

    def seconds_until(self, amount: float, now: float) -> float:
        """0: it may go now; inf: never."""
        self._advance(now)
        if not self.limit:
            return 0
        if amount > self.limit:
            return math.inf
        wait = max(0.0, (min(amount, self.capacity) - self.level) / self.rate)
        if self.window and (over := self.used + amount - self.limit) > 0:
            for at, part in self.taken:
                over -= part
                if over <= 0:
                    return max(wait, at + self.seconds - now)
        return wait

    def take(self, amount: float, now: float) -> None:
        """Whether it may or not: real output, and calls that were refused, count too."""
        self._advance(now)
        self.level = max(self.level - amount, -self.limit)
        self.taken.append((now, amount))
        self.used += amount
        self.total += amount
        self.peak = max(self.peak, self.used)

    def remaining(self, now: float) -> int:
        self._advance(now)
        left = min(self.level, self.limit - self.used) if self.window else self.level
        return max(0, int(left))

    def seconds_to_full(self, now: float) -> float:
        self._advance(now)
        return (self.capacity - self.level) / self.rate if self.rate else 0

    def report(self, now: float) -> dict:
        self._advance(now)
        return {"limit": self.limit, "used": round(self.used), "peak": round(self.peak), "total": round(self.total)}


def go_duration(seconds: float) -> str:
    """As OpenAI writes it: 12ms, 1s, 6m0s."""
    ms = max(1, math.ceil(seconds * 1000))
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms / 1000, 60)
    return (f"{int(minutes)}m" if minutes else "") + f"{rest:g}s"
