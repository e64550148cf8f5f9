"""What is decided about a request before anything is done about it: the call, its place, the body to send, its bound (pure)."""

import msgspec

from billing.directory.caller import Caller, Target
from billing.errors import InvalidInput
from billing.gateway.ending import label
from billing.gateway.forward import Destination, destination
from billing.gateway.ports import Directory, Request
from billing.gateway.routing import choose
from billing.limits.admission import Permit
from billing.limits.limit import Limit
from billing.metering.event import Opened
from billing.tokens import estimate
from billing.tokens.call import JSON, Asked, Call
from billing.tokens.dialects.routes import Route
from billing.tokens.engines import Engine
from billing.tokens.engines import engine as engine_of
from billing.tokens.meter import StreamMeter

IDENTITY = b"identity"


class Work(msgspec.Struct, frozen=True):
    """A request and everything decided about it; ``permit`` is there once its limits have admitted it."""

    request: Request
    caller: Caller
    call: Call
    model: str
    target: Target
    engine: Engine
    body: bytes
    place: Destination
    limits: tuple[Limit, ...]
    meter: StreamMeter
    permit: Permit | None = None

    def __repr__(self) -> str:
        return f"<Work {self.request!r} {self.meter!r}>"

    def tokens_bound(self, output_tokens: int) -> int:
        """The most tokens that the request is expected to use; ``output_tokens`` for one that does not say."""
        return estimate.input_tokens(len(self.request.body)) + self.call.output_bound(output_tokens)

    def opened(self) -> Opened:
        """The open entry."""
        request, caller = self.request, self.caller
        key = request.headers.get(b"idempotency-key")
        return Opened(
            id=request.id,
            tenant_id=caller.tenant_id,
            project_id=caller.project_id,
            key_id=caller.key_id,
            model=self.model,
            backend_id=self.target.backend.id,
            engine=self.engine.name,
            operation=self.call.operation.value,
            stream=self.call.stream,
            input_estimate=estimate.input_tokens(len(request.body)),
            end_user=self.call.end_user,
            idempotency_key=label(key.decode("latin-1")) if key else None,
            tags=caller.tags,
        )


def decide(directory: Directory, request: Request, caller: Caller, route: Route) -> Work:
    """Everything about a request that needs no waiting; raises what its caller is to be told."""
    if request.headers.get(b"content-encoding", IDENTITY) != IDENTITY:
        raise InvalidInput("a compressed request body is not accepted; send it as plain JSON")
    call = route.parse(
        Asked(route.operation, request.path, request.body, request.headers.get(b"content-type", JSON))
    )
    model = directory.model(call.model)
    target = choose(directory.targets(model), request.id, model.name)
    engine = engine_of(target.backend.engine)
    call.check(engine)
    return Work(
        request=request,
        caller=caller,
        call=call,
        model=model.name,
        target=target,
        engine=engine,
        body=call.upstream_body(engine, target.deployment.backend_model, stream=call.stream),
        place=destination(target.backend.url),
        limits=directory.limits(caller, model.name),
        meter=call.stream_meter(engine),
    )
