"""What is decided about a request before anything is done about it: the call, its place, the body to send, its bound (pure)."""

import msgspec

from billing.directory.caller import Caller, Model, Target
from billing.errors import InvalidInput
from billing.gateway.cost import ASKED_BY, Cost, cost_of, is_asked
from billing.gateway.forward import Destination, destination
from billing.gateway.label import label
from billing.gateway.ports import Directory, Request
from billing.gateway.probing import Probes, plain
from billing.gateway.routing import choose
from billing.limits.admission import Permit
from billing.limits.expectation import Expectation
from billing.limits.limit import Limit, in_force
from billing.limits.need import Need
from billing.metering.event import Opened
from billing.pricing.term import Term
from billing.tokens import estimate
from billing.tokens.assembler import Assembler
from billing.tokens.call import JSON, Asked, Call
from billing.tokens.dialects.routes import Route
from billing.tokens.engines import Engine
from billing.tokens.engines import engine as engine_of
from billing.tokens.fixed import UnstreamedMeter
from billing.tokens.members import check_spelling, members_of
from billing.tokens.meter import StreamMeter
from billing.tokens.operation import Framing
from billing.tokens.tags import Tags
from billing.tokens.usage import TokenUsage

IDENTITY = b"identity"
FORM = b"multipart/"
UNPROBED = Probes()
"""Nothing is known to be refused."""
UNSTREAMED = UnstreamedMeter()
"""The meter of every reply that is no stream: it sees nothing, and is the same for all."""
NAMES_SHOWN_MAX = 20
STREAM_AND_ASSEMBLE = "stream_and_assemble"
"""The policy of a backend whose whole replies are counted while they are made (``fleet.backend.OnHangUp``)."""
DRAIN = "drain"
"""That of one whose whole replies are let finish."""


class Work(msgspec.Struct, frozen=True):
    """A request and everything decided about it; ``permit`` is there once its limits have admitted it."""

    request: Request
    id_text: str
    """The request's id as client and engine are told it: a UUID is written slowly."""
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
    counts_reasoning: bool = False
    """Whether the plan prices reasoning apart, so that a tokenizer is asked where no counter says how much it was."""
    tags: Tags | None = None
    """What marks reasoning in the model's answers, where its engine does not take it out."""
    vocabulary: str | None = None
    """What counts the model's text where its engine cannot."""
    terms: tuple[Term, ...] | None = None
    """What prices the request, where its client wants to be told what it costs."""
    context_tokens: int | None = None
    """What its prompt and answer hold together, where that is known."""
    cap: int | None = None
    """The length of its answer that the operator set in the place of what the client wanted."""

    def __repr__(self) -> str:
        return f"<Work {self.request!r} {self.meter!r}>"

    def need(self, expectation: Expectation) -> Need:
        """What the request may use, for its limits, as far as experience tells and at worst."""
        call = self.call
        prompt_bytes, answers = call.prompt_bytes(), call.answers()
        expected = expectation.output(self.caller.tenant_id, self.model, call.output_max)
        most, context = call.output_most(), self.context_tokens
        expected_input, input_most = expectation.input(self.model, prompt_bytes), prompt_bytes or 1
        if context is not None:
            # A prompt of each of several, and an answer to each, fill a context of their own.
            all_contexts = context * answers
            expected, expected_input = min(expected, context), min(expected_input, all_contexts)
            input_most = min(input_most, all_contexts)
            most = all_contexts if most is None else min(most, all_contexts)
        return Need(
            expected_input,
            min(call.output_bound(expected), answers * expected),
            input_most,
            most,
            call.end_user or "",
            answers,
            call.output_member,
            expectation.is_guess(self.caller.tenant_id, self.model),
        )

    @property
    def drains(self) -> bool:
        """Whether the reply is let finish, and counted, though its client has left."""
        return not self.call.stream and self.assembler is None and self.target.backend.on_hang_up == DRAIN

    def cost(self, usage: TokenUsage) -> Cost | None:
        """What the request costs with such usage; None where its client does not want to be told."""
        return None if self.terms is None else cost_of(usage, self.terms, self.model, self.request.at_us)

    def plainer(self) -> "Work":
        """The same for an engine that refused what was added to the request."""
        engine = plain(self.engine)
        call, stream = self.call, self.call.stream or self.assembler is not None
        return msgspec.structs.replace(
            self,
            engine=engine,
            body=call.upstream_body(engine, self.target.deployment.backend_model, stream=stream),
            meter=_meter(call, engine, keeps=self.counts_reasoning, tags=self.tags) if stream else self.meter,
            assembler=None if self.assembler is None else call.assembler(engine, always=True),
        )

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


def decide(
    directory: Directory, request: Request, caller: Caller, route: Route, probes: Probes = UNPROBED
) -> Work:
    """Everything about a request that needs no waiting; raises what its caller is to be told."""
    if request.headers.get(b"content-encoding", IDENTITY) != IDENTITY:
        raise InvalidInput("a compressed request body is not accepted; send it as it is")
    call = route.parse(
        Asked(route.operation, request.path, request.body, request.headers.get(b"content-type", JSON))
    )
    terms = None
    if is_asked(request.headers.get(ASKED_BY)):
        call, terms = call.telling_usage(), directory.terms(caller.tenant_id)
    model = directory.model(call.model) if call.model else _only_model(directory, call)
    target = choose(_serving(directory, model, call), request.id, model.name)
    asked_max = call.output_max
    if model.output_cap is not None:
        call = call.capped(model.output_cap)
    engine = probes.engine_at(target.backend, engine_of(target.backend.engine))
    if engine.folds_names and not call.content_type.startswith(FORM):
        check_spelling(members_of(call.body))
    call.check(engine)
    always = target.backend.on_hang_up == STREAM_AND_ASSEMBLE
    assembler = None if call.stream else call.assembler(engine, always=always)
    stream = call.stream or assembler is not None
    keeps, tags = directory.prices_reasoning_apart(caller.tenant_id, model.name, request.at_us), _tags(model)
    is_followed = stream or call.framing is Framing.BINARY
    return Work(
        request=request,
        id_text=str(request.id),
        caller=caller,
        call=call,
        model=model.name,
        target=target,
        engine=engine,
        body=call.upstream_body(engine, target.deployment.backend_model, stream=stream),
        place=destination(target.backend.url),
        limits=in_force(directory.limits(caller, model.name), request.at_us),
        meter=_meter(call, engine, keeps=keeps, tags=tags) if is_followed else UNSTREAMED,
        assembler=assembler,
        counts_reasoning=keeps,
        tags=tags,
        vocabulary=model.tokenizer,
        terms=terms,
        context_tokens=model.context_tokens,
        cap=call.output_max if call.output_max != asked_max else None,
    )


def _meter(call: Call, engine: Engine, *, keeps: bool, tags: Tags | None) -> StreamMeter:
    meter = call.stream_meter(engine)
    if keeps or tags is not None:
        meter.watch_reasoning(keeps=keeps, tags=tags)
    return meter


def _tags(model: Model) -> Tags | None:
    start, end = model.reasoning_start, model.reasoning_end
    return None if start is None or end is None else Tags(start, end)


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
