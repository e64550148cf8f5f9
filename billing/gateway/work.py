"""What is decided about a request before anything is done about it: the call, its place, the body to send, its bound (pure)."""

import msgspec

from billing.directory.caller import Caller, Model, Target
from billing.errors import InvalidInput
from billing.gateway.forward import Destination, destination
from billing.gateway.label import label
from billing.gateway.ports import Directory, Request
from billing.gateway.routing import choose
from billing.limits.admission import Permit
from billing.limits.limit import Limit
from billing.metering.event import Opened
from billing.tokens import estimate
from billing.tokens.assembler import Assembler
from billing.tokens.call import JSON, Asked, Call
from billing.tokens.dialects.routes import Route
from billing.tokens.engines import Engine
from billing.tokens.engines import engine as engine_of
from billing.tokens.meter import StreamMeter

IDENTITY = b"identity"
NAMES_SHOWN_MAX = 20
STREAM_AND_ASSEMBLE = "stream_and_assemble"
"""The policy of a backend whose whole replies are counted while they are made (``fleet.backend.OnHangUp``)."""
DRAIN = "drain"
"""That of one whose whole replies are let finish."""


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
    assembler: Assembler | None = None
    """What makes a whole reply of a stream, where the engine is asked for one and the client is not to see it."""
    permit: Permit | None = None

    def __repr__(self) -> str:
        return f"<Work {self.request!r} {self.meter!r}>"

    def tokens_bound(self, output_tokens: int) -> int:
        """The most tokens that the request is expected to use; ``output_tokens`` for one that does not say."""
        return estimate.input_tokens(self.call.prompt_bytes()) + self.call.output_bound(output_tokens)

    @property
    def drains(self) -> bool:
        """Whether the reply is let finish, and counted, though its client has left."""
        return not self.call.stream and self.assembler is None and self.target.backend.on_hang_up == DRAIN

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
            input_estimate=estimate.input_tokens(self.call.prompt_bytes()),
            end_user=self.call.end_user,
            idempotency_key=label(key.decode("latin-1")) if key else None,
            tags=caller.tags,
            dialect=self.call.dialect.value,
        )


def decide(directory: Directory, request: Request, caller: Caller, route: Route) -> Work:
    """Everything about a request that needs no waiting; raises what its caller is to be told."""
    if request.headers.get(b"content-encoding", IDENTITY) != IDENTITY:
        raise InvalidInput("a compressed request body is not accepted; send it as it is")
    call = route.parse(
        Asked(route.operation, request.path, request.body, request.headers.get(b"content-type", JSON))
    )
    model = directory.model(call.model) if call.model else _only_model(directory, call)
    target = choose(_serving(directory, model, call), request.id, model.name)
    engine = engine_of(target.backend.engine)
    call.check(engine)
    always = target.backend.on_hang_up == STREAM_AND_ASSEMBLE
    assembler = None if call.stream else call.assembler(engine, always=always)
    stream = call.stream or assembler is not None
    return Work(
        request=request,
        caller=caller,
        call=call,
        model=model.name,
        target=target,
        engine=engine,
        body=call.upstream_body(engine, target.deployment.backend_model, stream=stream),
        place=destination(target.backend.url),
        limits=directory.limits(caller, model.name),
        meter=call.stream_meter(engine),
        assembler=assembler,
    )


def _serving(directory: Directory, model: Model, call: Call) -> tuple[Target, ...]:
    """The targets of a model whose engines serve the call; raises ``InvalidInput`` when there are others only."""
    targets = directory.targets(model)
    asked = (call.dialect, call.operation)
    if len(targets) == 1 and asked in engine_of(targets[0].backend.engine).serves:
        return targets
    serving = tuple(target for target in targets if asked in engine_of(target.backend.engine).serves)
    if targets and not serving:
        titles = ", ".join(sorted({engine_of(target.backend.engine).title for target in targets}))
        raise InvalidInput(
            f"the model `{model.name}` is served by {titles}, which does not answer {call.path}", "model"
        )
    return serving


def _only_model(directory: Directory, call: Call) -> Model:
    """The model of a call that names none: the only one that such a call can be for. Raises ``InvalidInput``."""
    asked = (call.dialect, call.operation)
    models = [
        model
        for model in directory.models()
        if any(asked in engine_of(target.backend.engine).serves for target in directory.targets(model))
    ]
    if len(models) == 1:
        return models[0]
    names = ", ".join(sorted(model.name for model in models)[:NAMES_SHOWN_MAX]) or "none"
    raise InvalidInput(f"name the model in a member `model`; served at {call.path}: {names}", "model")
