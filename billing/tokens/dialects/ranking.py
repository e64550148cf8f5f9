"""Rerankers, scorers and classifiers: ``/v1/rerank`` (Cohere's and Jina's shape), ``/v1/ranking`` (NIM), ``/v1/score``, ``/classify``.

Sources: vLLM 0.33.0 ``entrypoints/pooling``, SGLang 0.5.23, llama.cpp 0c1e57098, NVIDIA's and Cohere's API references. The
paths without a version are other names of the same. None of them streams, and none says a limit of its output: there is none.
"""

from typing import Any

from billing.errors import InvalidInput
from billing.tokens.call import Asked, Call
from billing.tokens.dialects.ranking_meter import RankingReplyMeter
from billing.tokens.engines import Engine
from billing.tokens.fixed import UnstreamedMeter
from billing.tokens.members import (
    Members,
    end_user_of,
    flag,
    items_of,
    members_of,
    model_of,
    start,
    text_of,
    with_members,
)
from billing.tokens.operation import Dialect, Operation

_DOCUMENTS = ("documents", "passages", "texts")
"""What is ranked: in Cohere's and Jina's words, NIM's, and those of Text Embeddings Inference."""
_CLASSIFIED = ("input", "messages", "text")
_DIALECTS = {Operation.RERANK: Dialect.COHERE}


class RankingCall(Call, frozen=True, kw_only=True):
    """One request to judge documents, pairs or texts."""

    members: Members
    documents: int = 0
    """How many documents are to be judged, 0 where the request does not say in a list."""

    def output_bound(self, unsaid: int) -> int:  # noqa: ARG002 - there is no output
        """None."""
        return 0

    def upstream_body(self, engine: Engine, backend_model: str, *, stream: bool) -> bytes:  # noqa: ARG002 - all engines are asked alike
        """The body as it came, with the backend's name of the model."""
        changes: dict[str, Any] = {} if backend_model == self.model else {"model": backend_model}
        return with_members(self.members, changes) if changes else self.body

    def stream_meter(self, engine: Engine) -> UnstreamedMeter:  # noqa: ARG002 - there are no streams
        """It is never streamed."""
        return UnstreamedMeter()

    def reply_meter(self, engine: Engine, body: bytes) -> RankingReplyMeter:  # noqa: ARG002 - the reply's shape tells how it is read
        """What reads the whole reply."""
        return RankingReplyMeter(body, self.documents)


def parse(asked: Asked) -> RankingCall:
    """The call of a request body; raises ``InvalidInput`` that names the member and says what to write."""
    members = members_of(asked.body)
    model = model_of(members, required=False)
    if flag(members, "stream"):
        raise InvalidInput(f"{asked.operation} cannot be streamed; leave out stream", "stream")
    _check_subject(asked.operation, members)
    return RankingCall(
        operation=asked.operation,
        dialect=_DIALECTS.get(asked.operation, Dialect.OPENAI),
        path=asked.path,
        body=asked.body,
        model=model,
        end_user=end_user_of(text_of(members, "user")),
        members=members,
        documents=_documents(members),
    )


def _check_subject(operation: Operation, members: Members) -> None:
    """What is asked about must be there; how it is written differs too much among engines to be judged here."""
    if operation is Operation.RERANK:
        _check_one_of(members, ("query",))
        _check_one_of(members, _DOCUMENTS)
    elif operation is Operation.CLASSIFY:
        _check_one_of(members, _CLASSIFIED)


def _check_one_of(members: Members, names: tuple[str, ...]) -> None:
    if not members.keys() & set(names):
        raise InvalidInput(f"you must provide {names[0]}", names[0])


def _documents(members: Members) -> int:
    """Engines that know several of the names take the first (llama.cpp: ``documents`` before ``texts``)."""
    name = next((name for name in _DOCUMENTS if name in members), "")
    return len(items_of(members, name)) if name and start(members[name], 1) == b"[" else 0
