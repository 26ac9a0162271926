"""What a provider keeps of the prompts it has seen: prefixes, by block, for five minutes after their last use."""
import hashlib

LIFETIME_SECONDS = 300
BYTES_PER_TOKEN = 4


def tokens_of(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


class PromptCache:
    def __init__(self) -> None:
        self.kept: dict[bytes, float] = {}  # digest of a prefix → when it is forgotten

    def _alive(self, digest: bytes, now: float) -> bool:
        return self.kept.get(digest, 0) > now

    def _keep(self, digests: list[bytes], now: float, lifetime: float) -> None:
        if len(self.kept) > 100_000:
            self.kept = {d: until for d, until in self.kept.items() if until > now}
        for digest in digests:
            self.kept[digest] = max(self.kept.get(digest, 0), now + lifetime)

    def implicit(self, prompt: str, block: int, minimum: int, now: float) -> tuple[int, int]:
        """(tokens read, tokens written) of a prompt that is cached by itself, in blocks of so many tokens."""
        raw = prompt.encode()
        step, running, digests = block * BYTES_PER_TOKEN, hashlib.blake2b(digest_size=12), []
        for end in range(step, len(raw) + 1, step):
            running.update(raw[end - step:end])
            digests.append(running.digest())
        if len(digests) * block < minimum:
            return 0, 0
        read = next((n for n in range(len(digests), 0, -1) if n * block >= minimum and self._alive(digests[n - 1], now)), 0)
        self._keep(digests, now, LIFETIME_SECONDS)
        return read * block, (len(digests) - read) * block

    def explicit(self, parts: list[str], marks: dict[int, int], minimum: int, now: float, look_back: int = 20) -> tuple[int, int]:
        """(tokens read, tokens written) of a prompt in blocks, `marks`: index of a marked block → its lifetime in seconds."""
        running, digests, sizes, size = hashlib.blake2b(digest_size=12), [], [], 0
        for part in parts:
            running.update(part.encode() + b"\0")
            size += tokens_of(part)
            digests.append(running.digest())
            sizes.append(size)
        usable = [i for i in sorted(marks) if sizes[i] >= minimum]
        if not usable:
            return 0, 0
        last = usable[-1]
        read = next((i for i in range(last, max(-1, last - look_back), -1) if sizes[i] >= minimum and self._alive(digests[i], now)), None)
        for i in usable:
            self._keep([digests[i]], now, marks[i])
        if read is not None:
            self._keep([digests[read]], now, LIFETIME_SECONDS)
        tokens = sizes[read] if read is not None else 0
        return tokens, sizes[last] - tokens
