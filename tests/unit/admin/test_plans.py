"""What stands for a plan's YAML in a request."""

import msgspec
import pytest

from billing.admin.plans import YAML, plan_text
from billing.errors import InvalidInput, TooLarge
from billing.pricing.parse import parse
from billing.pricing.yaml_text import BYTES_MAX


@pytest.mark.parametrize("kind", ["text/yaml", "application/yaml", "application/x-yaml"])
def test_the_text_itself_or_json_around_it(kind: str) -> None:
    assert plan_text(kind, YAML.encode()) == YAML
    assert plan_text("application/json", msgspec.json.encode({"yaml": YAML})) == YAML


def test_the_example_is_a_plan() -> None:
    assert parse(YAML).name == "standard"


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("text/html", b"plan: x", "send text/yaml, or application/json"),
        ("application/json", b"{}", "missing required field `yaml`"),
        ("application/json", b'{"yaml": 1}', r"\$\.yaml"),
        ("application/json", b'{"yaml": "", "x": 1}', "unknown field `x`"),
        ("application/json", b"plan: x", "malformed"),
        ("text/yaml", b"label: \xff", "not UTF-8: byte 8 is 0xff"),
    ],
)
def test_anything_else_is_refused_with_its_place(kind: str, body: bytes, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        plan_text(kind, body)


def test_a_text_has_a_limit() -> None:
    assert len(plan_text("text/yaml", b"x" * BYTES_MAX)) == BYTES_MAX
    with pytest.raises(TooLarge, match="longer than 256 KiB"):
        plan_text("text/yaml", b"x" * (BYTES_MAX + 1))
