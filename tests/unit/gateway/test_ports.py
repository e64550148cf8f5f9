"""The fakes of the tests and the real collaborators have the shape that the proxy asks for."""

import inspect
from typing import Any

import pytest

from billing.gateway import ports
from billing.gateway.mount import AsgiClient
from billing.gateway.reply import Reply
from billing.gateway.tokenizer import Tokenizers
from billing.gateway.upstream import UpstreamPool
from billing.metering.spool import Spool
from tests.gateway.fakes import FakeClient, FakeDirectory, FakeReply, FakeSpool, FakeTokenizer, FakeUpstream

FILLED: list[tuple[type[Any], type[Any]]] = [
    (ports.Client, FakeClient),
    (ports.Client, AsgiClient),
    (ports.Reply, FakeReply),
    (ports.Reply, Reply),
    (ports.Exchange, Reply),
    (ports.Upstream, FakeUpstream),
    (ports.Upstream, UpstreamPool),
    (ports.Spool, FakeSpool),
    (ports.Spool, Spool),
    (ports.Directory, FakeDirectory),
    (ports.Tokenizer, FakeTokenizer),
    (ports.Tokenizer, Tokenizers),
]


def methods(port: type[Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in inspect.getmembers(port, inspect.isfunction)
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("port", "filled"), FILLED, ids=lambda value: value.__name__)
def test_methods_take_what_the_proxy_gives(port: type[Any], filled: type[Any]) -> None:
    for name, wanted in methods(port).items():
        present = getattr(filled, name)
        names = list(inspect.signature(wanted).parameters)
        given = inspect.signature(present).parameters.values()
        assert [parameter.name for parameter in given if parameter.name in names] == names, (
            f"{filled.__name__}.{name}"
        )
        surplus = [parameter.name for parameter in given if parameter.name not in names]
        assert not [
            n for n in surplus if inspect.signature(present).parameters[n].default is inspect.Parameter.empty
        ]
        assert inspect.iscoroutinefunction(present) == inspect.iscoroutinefunction(wanted), (
            f"{filled.__name__}.{name}"
        )
