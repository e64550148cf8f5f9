"""`POST /v1/usage/events`, as others send to it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from billing.admin.events import ACCEPTED, EVENT, VERDICTS
from billing.admin.moment import written
from billing.clock import month_start
from billing.infra.system import now_us
from billing.settings import ControlSettings
from tests import events_kit
from tests.admin_kit import PROBLEM, Api, admin_api
from tests.metering_kit import ask

PATH = "/v1/usage/events"
SINGLE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
# The application has the real clock, and events may be as old as 730 days.
NOW = written(now_us() // 1_000_000 * 1_000_000)
MONTH = NOW[:7]
PAST = written(month_start(month_start(now_us()) - 1))[:7]


def event(number: int = 1, *, time: str = NOW, **said: Any) -> Any:
    return events_kit.event(number, time=time, **said)


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with admin_api(migrated_url, tmp_path) as made:
        await made.made("/tenants", {"slug": "acme"})
        await made.made("/tenants/acme/projects", {"slug": "search"})
        yield made


async def send(api: Api, body: Any, kind: str = "application/json") -> Any:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return await api.send("POST", PATH, content=content, headers=api.headers | {"content-type": kind})


async def verdicts(api: Api, body: Any, kind: str = "application/json") -> list[dict[str, Any]]:
    answer = await send(api, body, kind)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["verdicts"]
    return found


async def test_the_example_is_accepted_and_answered_as_shown(api: Api) -> None:
    answer = (await send(api, EVENT | {"time": NOW}, SINGLE)).json()
    (verdict,) = answer["verdicts"]
    assert verdict.pop("usage_id") != str(ACCEPTED.usage_id)
    shown = msgspec.to_builtins(VERDICTS)
    del shown["verdicts"][0]["usage_id"]
    assert answer == shown


async def test_either_shape_in_any_of_its_media_types(api: Api) -> None:
    for kind in (SINGLE, "application/json", f"{SINGLE}; charset=utf-8"):
        assert len(await verdicts(api, event(), kind)) == 1
    for kind in (BATCH, "application/json"):
        assert len(await verdicts(api, [event(1), event(2)], kind)) == 2
    assert await verdicts(api, [], BATCH) == []


async def test_paths_say_where_in_the_body(api: Api) -> None:
    wrong = event(input=5, output="many")
    (single,) = await verdicts(api, wrong)
    assert (single["verdict"], single["param"]) == ("rejected", "data.output")
    assert single["reason"] == "data.output: Expected `int | null`, got `str`"
    answer = (await send(api, [event(), wrong], BATCH)).json()
    assert (answer["accepted"], answer["rejected"]) == (1, 1)
    assert answer["verdicts"][1]["param"] == "[1].data.output"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"7", "application/json", 400),
        (b"null", SINGLE, 400),
        (b"[]", SINGLE, 400),
        (b"{}", BATCH, 400),
        (b"{}", "text/plain", 400),
        (b'{"id":"\xff"}', "application/json", 400),
        (b'{"id":"\\u0000"}', "application/json", 400),
        (b"[" * 5_000, BATCH, 400),
        (b"[" + b"{}," * 1_000 + b"{}]", BATCH, 413),
        (b" " * (ControlSettings().request_body_bytes_max + 1), BATCH, 413),
    ],
)  # fmt: skip
async def test_a_body_that_cannot_be_read_is_refused_whole(
    api: Api, body: bytes, kind: str, status: int
) -> None:
    answer = await send(api, body, kind)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text


async def test_it_asks_for_the_admin_token(api: Api) -> None:
    for headers in ({}, {"authorization": "Bearer adm-wrong"}):
        answer = await api.send("POST", PATH, json=event(), headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (401, PROBLEM)


async def test_parallel_posts_of_a_batch_count_each_event_once_on_every_surface(api: Api) -> None:
    batch = [event(number, training=1_000 + number) for number in range(20)]
    answers = await asyncio.gather(*(verdicts(api, batch, BATCH) for _ in range(8)))
    found = [each["verdict"] for answer in answers for each in answer]
    assert (found.count("accepted"), found.count("duplicate")) == (20, 140)
    summary = await api.ok("GET", f"/tenants/acme/usage?period={MONTH}")
    assert (summary["requests"], summary["requests_unknown"], summary["components"]["training"]) == (
        20,
        0,
        20_190,
    )
    assert summary["tokens"] == 20_190
    listed = await api.ok("GET", "/usage/records?limit=100")
    assert sum(each["parts"]["training"]["value"] for each in listed["data"]) == 20_190
    assert {each["key_id"] for each in listed["data"]} == {None}


async def test_a_conflict_is_audited_under_the_sender_s_name(api: Api) -> None:
    await verdicts(api, event(training=7))
    (conflict,) = await verdicts(api, event(training=8))
    assert conflict["verdict"] == "conflict"
    (entry,) = (await api.ok("GET", "/audit?subject=usage_quarantine"))["data"]
    assert (entry["actor"], entry["subject_id"]) == ("admin", conflict["usage_id"])
    assert entry["after"]["detail"].startswith("event step-1 of /trainers/job-17 was recorded before")


PLAN = """\
plan: tuned
currency: USD
versions:
  - effective: 2026-01-01T00:00:00Z
    per: 1000
    rates: [{model: golden, input: "0.50", output: "1.00"TRAINING}]
"""


async def test_training_is_unrated_until_a_plan_prices_it(api: Api) -> None:
    (made,) = await verdicts(api, event(training=4_000))
    await api.ok("POST", "/plans", {"yaml": PLAN.replace("TRAINING", "")})
    await api.made("/tenants/acme/subscriptions", {"plan": "tuned", "starts_at": f"{MONTH}-01T00:00:00Z"})
    preview = await api.ok("GET", f"/tenants/acme/invoice-preview?period={MONTH}")
    assert (preview["tokens_unrated"], preview["total"]) == (4_000, "0.00")
    trace = await api.ok("GET", f"/usage/records/{made['usage_id']}/trace")
    assert (trace["operation"], trace["amount"], trace["key"]["id"], trace["backend"]["engine"]) == (
        "training", None, None, "external",
    )  # fmt: skip
    priced = PLAN.replace("TRAINING", ', training: "0.25"').replace("plan: tuned", "plan: trained")
    await api.ok("POST", "/plans", {"yaml": priced})
    await api.made("/tenants", {"slug": "other"})
    await api.made("/tenants/other/subscriptions", {"plan": "trained", "starts_at": f"{MONTH}-01T00:00:00Z"})
    await verdicts(api, event(subject="other", training=4_000))
    preview = await api.ok("GET", f"/tenants/other/invoice-preview?period={MONTH}")
    assert (preview["tokens_unrated"], preview["total"]) == (0, "1.00")


async def test_an_event_of_a_month_that_is_invoiced_is_late_usage_of_it(api: Api, migrated_url: str) -> None:
    await api.ok("POST", "/plans", {"yaml": PLAN.replace("TRAINING", ', training: "0.25"')})
    await api.made("/tenants/acme/subscriptions", {"plan": "tuned", "starts_at": f"{PAST}-01T00:00:00Z"})
    await verdicts(api, event(1, time=f"{PAST}-10T00:00:00Z", training=8_000))
    (closed,) = (await api.ok("POST", "/invoices/close", {"period": PAST, "tenant": "acme"}))["data"]
    assert closed["invoice"]["total"] == "2.00"
    (late,) = await verdicts(api, event(2, time=f"{PAST}-10T00:00:00Z", training=4_000))
    assert late["verdict"] == "accepted"
    [row] = await ask(migrated_url, "SELECT collection FROM usage_record ORDER BY collection DESC LIMIT 1")
    assert row["collection"] == 2
    found = await api.ok("GET", f"/invoices/{closed['invoice']['number']}/late")
    assert (found["tokens"], found["amount"]) == (4_000, "1.00")


async def test_time_is_this_machine_s(api: Api) -> None:
    for seconds, expected in (
        (200, "accepted"),
        (400, "rejected"),
        (-729 * 86_400, "accepted"),
        (-731 * 86_400, "rejected"),
    ):
        (verdict,) = await verdicts(api, event(seconds, time=written(now_us() + seconds * 1_000_000)))
        assert (verdict["verdict"], verdict["param"]) == (
            expected,
            "time" if expected == "rejected" else None,
        )
