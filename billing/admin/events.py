"""``POST /v1/usage/events``: usage that others counted, where trainers and other gateways expect to send it."""

from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller, Request, Router, post
from litestar.di import Provide
from litestar.status_codes import HTTP_200_OK

from billing.admin.describe import described
from billing.admin.documentation import SCHEME
from billing.admin.operator import token_guard
from billing.admin.readable import refuse_unreadable
from billing.admin.services import Services, ServicesOf
from billing.metering.external.body import BATCH_TYPE, PLAIN_TYPE, SINGLE_TYPE, read_body
from billing.metering.external.verdict import Verdict, Word, counted

PATH = "/v1/usage"
"""Outside the admin API: here programs send, not operators, and the path is the gateways'."""


class VerdictsDocument(msgspec.Struct, frozen=True):
    """What became of each event, in the order in which they were sent, and how many got each word."""

    accepted: int
    duplicate: int
    conflict: int
    rejected: int
    verdicts: list[Verdict]


EVENT = {
    "specversion": "1.0",
    "type": "billing.usage.v1",
    "source": "/trainers/job-17",
    "id": "step-3",
    "time": "2026-11-24T10:00:00Z",
    "subject": "acme",
    "datacontenttype": "application/json",
    "data": {
        "model": "llama-3.1-70b",
        "operation": "training",
        "project": "search",
        "training": 4_194_304,
        "gpu_second": 96,
        "tags": {"run": "17"},
    },
}
BATCH_EVENT = EVENT | {
    "source": "/gateways/edge-2",
    "id": "0198-77",
    "data": {
        "model": "llama-3.1-70b",
        "operation": "chat",
        "service_tier": "batch",
        "input": 1_013,
        "cached_input": 1_008,
        "output": 53,
        "reasoning": 20,
    },
}
ACCEPTED = Verdict(Word.ACCEPTED, "/trainers/job-17", "step-3", UUID("019ab3f4-8c00-7000-8000-000000000012"))
VERDICTS = VerdictsDocument(accepted=1, duplicate=0, conflict=0, rejected=0, verdicts=[ACCEPTED])
SENT = {PLAIN_TYPE: EVENT, SINGLE_TYPE: EVENT, BATCH_TYPE: [EVENT, BATCH_EVENT]}


class EventController(Controller):
    """Usage that did not pass the gateway."""

    tags = ("Usage",)

    @post(
        "/events",
        status_code=HTTP_200_OK,
        **described("Report usage that did not pass the gateway", VERDICTS, sent=SENT),
    )
    async def send_events(self, services: Services, request: Request[Any, Any, Any]) -> VerdictsDocument:
        """Record what a training job, a batch job or another gateway used, as CloudEvents 1.0: one, or up to 1,000.

        An event is named by its tenant (`subject`), `source` and `id`, for ever: sending it again counts nothing
        again, so send until an answer comes. The verdicts come in the order of the events: `accepted`; `duplicate`,
        recorded before; `conflict`, recorded before with something else, nothing changed and audited; `rejected` with
        the reason and the path of the member that it is about. A batch is one transaction, and what is rejected
        keeps nothing else back. Only a body that cannot be read at all is answered by a problem.

        `type` is `billing.usage.v1`. `time` is when it was used, at most 300 s ahead of the server's clock and 730
        days old: period and price follow it, and what falls into a month that is invoiced is late usage of it.

        `data` holds `model` and at least one count. Tokens: `input` (contains `cached_input`, `cache_write`,
        `audio_input`, `image_input`, `video_input`), `output` (contains `reasoning`, `audio_output`, `image_output`),
        `cache_write_1h`, and `training` beside them; units: `image`, `second`, `gpu_second`, `character`, `search`.
        `input` and `output` come together. Besides `operation` (`training` unless told), `project`, `outcome`,
        `end_user`, `tags`, `service_tier` and `estimated`. Members that are not known are rejected by name.

        A model that is not known is taken; without a rate its usage is unrated until a plan has one. Usage of a
        suspended tenant and of an archived project is taken too: the work was done.
        """
        body = read_body(await request.body(), request.content_type[0])
        return verdicts_document(
            await services.events.record(body.values, first=0 if body.is_batch else None)
        )


def verdicts_document(verdicts: list[Verdict]) -> VerdictsDocument:
    """Verdicts as the API shows them."""
    return VerdictsDocument(
        **{word.value: count for word, count in counted(verdicts).items()}, verdicts=verdicts
    )


def events_router(services_of: ServicesOf, token_hash: str | None) -> Router:
    """The route, behind the same guard as the admin API."""
    return Router(
        PATH,
        route_handlers=[EventController],
        guards=[token_guard(token_hash)],
        dependencies={"services": Provide(services_of, sync_to_thread=False)},
        before_request=refuse_unreadable,
        security=[{SCHEME: []}],
    )
