"""What the benchmark asks the load generator to do, and what it answers."""

import msgspec

PROMPT_BYTES = 2048


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: load of one shape on one target, CPU time of some processes over the same window.

    ``rate`` None: closed loop, each connection asks again as soon as it is answered. Otherwise so many requests a
    second, evenly, over the same connections, whether the target keeps up or not.
    """

    host: str
    port: int
    key: str
    model: str
    connections: int
    window_s: float
    warm_s: float
    rate: float | None = None
    tokens: int = 53
    stream: bool = False
    pace_ms: int = 0
    asked: dict[str, bool] = {}
    """Members of ``stream_options`` that the client sends."""
    watch: dict[str, list[int]] = {}
    """Process ids by the name under which their CPU time is answered."""

    def request(self) -> bytes:
        """The whole HTTP request; its body has 2 kB."""
        body: dict[str, object] = {
            "model": self.model,
            "max_tokens": self.tokens,
            "stream": self.stream,
            "pace_ms": self.pace_ms,
            "messages": [{"role": "user", "content": ""}],
        }
        if self.asked:
            body["stream_options"] = self.asked
        room = PROMPT_BYTES - len(msgspec.json.encode(body))
        body["messages"] = [{"role": "user", "content": ("a fair question " * PROMPT_BYTES)[:room]}]
        data = msgspec.json.encode(body)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self.host}:{self.port}\r\naccept: */*\r\n"
            f"content-type: application/json\r\nauthorization: Bearer {self.key}\r\n"
            f"user-agent: bench\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data


class Spread(msgspec.Struct, frozen=True):
    """Median and 99th percentile, in milliseconds."""

    p50: float
    p99: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a job, over its window alone unless it says otherwise."""

    window_s: float
    requests: int
    chunks: int
    latency_ms: Spread | None
    first_byte_ms: Spread | None
    gap_ms: Spread | None
    """Between two reads of a stream."""
    cpu_s: dict[str, float]
    requests_whole_job: int
    missed: int
    """Requests of a fixed rate that were not sent because every connection was busy."""
    faults: list[str]
    """What went wrong, if anything: the first few, in words."""
