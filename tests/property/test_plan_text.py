"""Whatever is sent as a plan: it is one, or is refused in a sentence."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.errors import InvalidInput
from billing.pricing.parse import parse

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no fault of a plan."""


@relaxed
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_plan_or_refused(text: str) -> None:
    for attempt in (text, f"plan: a\ncurrency: USD\nversions: {text}"):
        assert len(refusal(attempt)) < 1_000


def refusal(text: str) -> str:
    """Why a text is no plan; empty when it is one. Any other error is a defect."""
    try:
        parse(text)
    except InvalidInput as refused:
        return str(refused)
    return ""
