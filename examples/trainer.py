"""A trainer that reports the tokens it trains on, and counts none twice whenever it is killed and started again.

    BILLING_ADMIN_TOKEN=adm-… python examples/trainer.py --tenant acme --job 17 --model llama-3.1-70b-tuned

It needs nothing but Python. The training is played; how it is reported is real:

1. After each step the checkpoint and the step's event are written to one file in one move. So a step is either not
   trained yet and told to nobody, or trained and has its event, whose bytes never change again.
2. Events that were not answered yet are sent, all of them, until an answer comes. A second time is a duplicate to the
   server, because source and id of an event name it for ever.
3. What was answered is taken out of the file. Killed before that, the next start sends it once more.
"""  # noqa: INP001 - a program, not a package

import argparse
import http.client
import json
import os
import pathlib
import sys
import time
import urllib.parse
from datetime import UTC, datetime

PENDING_MAX = 500
"""Events that wait for the server; with more the training waits too. A batch may hold 1,000."""
RETRIES_MAX = 120
RETRY_DELAY_S = 0.5
TIMEOUT_S = 10.0
PATH = "/v1/usage/events"


class Checkpoint:
    """How far the training is and what was not reported yet, in one file that is replaced whole."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.step = 0
        self.pending: list[dict[str, object]] = []
        if path.exists():
            kept = json.loads(path.read_text("utf-8"))
            self.step, self.pending = kept["step"], kept["pending"]

    def __repr__(self) -> str:
        return f"<Checkpoint step={self.step} pending={len(self.pending)}>"

    def save(self) -> None:
        """Replace the file: a reader finds the old one or the new one, also after a power cut."""
        new = self.path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            json.dump({"step": self.step, "pending": self.pending}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)


class Refused(Exception):
    """The server answered, and will not take the events as they are."""


def train_step(batch_tokens: int, step_s: float) -> int:
    """Train on one batch, in play; returns how many tokens it had."""
    time.sleep(step_s)
    return batch_tokens


def event_of(options: argparse.Namespace, step: int, tokens: int, gpu_seconds: int) -> dict[str, object]:
    """The CloudEvent of a step. Its time is told once: made again, it would be another event of the same name."""
    return {
        "specversion": "1.0",
        "type": "billing.usage.v1",
        "source": f"/trainers/{options.job}",
        "id": f"step-{step}",
        "time": datetime.now(UTC).isoformat(),
        "subject": options.tenant,
        "data": {"model": options.model, "training": tokens, "gpu_second": gpu_seconds},
    }


def send(url: str, token: str, events: list[dict[str, object]]) -> list[dict[str, object]]:
    """The verdicts on events; raises ``OSError`` or ``HTTPException`` when it is not known whether they arrived."""
    address = urllib.parse.urlsplit(url)
    make = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = make(address.netloc, timeout=TIMEOUT_S)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/cloudevents-batch+json"}
    try:
        connection.request("POST", address.path.rstrip("/") + PATH, json.dumps(events), headers)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        raise http.client.HTTPException(f"the server answered {answer.status}")
    if answer.status != http.HTTPStatus.OK:
        raise Refused(body.decode(errors="replace"))
    verdicts: list[dict[str, object]] = json.loads(body)["verdicts"]
    return verdicts


def report(url: str, token: str, checkpoint: Checkpoint) -> bool:
    """Send what is pending and take it out of the checkpoint; False when the server did not answer."""
    events = checkpoint.pending
    if not events:
        return True
    try:
        verdicts = send(url, token, events)
    except (OSError, http.client.HTTPException) as fault:
        say(f"not reported yet, {len(events)} events wait: {fault}")
        return False
    for event, verdict in zip(events, verdicts, strict=True):
        say(f"{event['id']} {verdict['verdict']}")
        if verdict["verdict"] not in {"accepted", "duplicate"}:
            raise Refused(f"{event['id']}: {verdict['reason']}")
    checkpoint.pending = []
    checkpoint.save()
    return True


def train(options: argparse.Namespace, token: str) -> None:
    """Train from the checkpoint to the last step, and report each."""
    checkpoint = Checkpoint(options.checkpoint)
    say(f"from {checkpoint!r}")
    report(options.url, token, checkpoint)
    while checkpoint.step < options.steps:
        if len(checkpoint.pending) >= PENDING_MAX:
            report_all(options.url, token, checkpoint)
        tokens = train_step(options.batch_tokens, options.step_s)
        checkpoint.step += 1
        checkpoint.pending.append(event_of(options, checkpoint.step, tokens, options.gpus))
        checkpoint.save()
        report(options.url, token, checkpoint)
    report_all(options.url, token, checkpoint)
    say(f"done: {options.steps} steps, {options.steps * options.batch_tokens} tokens")


def report_all(url: str, token: str, checkpoint: Checkpoint) -> None:
    """Send what is pending until an answer comes; raises ``Refused`` when none does for a minute."""
    for _ in range(RETRIES_MAX):
        if report(url, token, checkpoint):
            return
        time.sleep(RETRY_DELAY_S)
    raise Refused(f"no answer from {url}; start again later, the events are kept in {checkpoint.path}")


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description="Train in play, and report every token once.")
    parser.add_argument("--url", default="http://127.0.0.1:8091", help="where `billing control` answers")
    parser.add_argument("--tenant", required=True, help="the slug of who pays")
    parser.add_argument("--job", required=True, help="what names this training among all")
    parser.add_argument("--model", required=True, help="the name that prices are for")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-tokens", type=int, default=4_096, help="tokens of a step")
    parser.add_argument("--step-s", type=float, default=0.2, help="seconds of a step, in play")
    parser.add_argument("--gpus", type=int, default=1, help="GPU seconds that a step is said to use")
    parser.add_argument("--checkpoint", type=pathlib.Path, default=pathlib.Path("checkpoint.json"))
    options = parser.parse_args()
    token = os.environ.get("BILLING_ADMIN_TOKEN")
    if not token:
        parser.error("set BILLING_ADMIN_TOKEN to the admin token of the service")
    try:
        train(options, token)
    except Refused as fault:
        sys.exit(f"error: {fault}")


if __name__ == "__main__":
    main()
