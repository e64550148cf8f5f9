"""Events of usage that did not pass the gateway, as others send them."""

from typing import Any

NOW = "2026-11-24T12:00:00Z"
TIME = "2026-11-24T10:00:00Z"
SOURCE = "/trainers/job-17"


def event(
    number: int = 1, *, subject: str = "acme", time: str = TIME, source: str = SOURCE, **data: Any
) -> Any:
    """A CloudEvent of 4,096 trained tokens; ``data`` says other things of it."""
    return {
        "specversion": "1.0",
        "type": "billing.usage.v1",
        "source": source,
        "id": f"step-{number}",
        "time": time,
        "subject": subject,
        "datacontenttype": "application/json",
        "data": {"model": "golden", **(data or {"training": 4_096})},
    }
