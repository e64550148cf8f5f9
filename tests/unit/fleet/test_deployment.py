import pytest

from billing.errors import InvalidInput
from billing.fleet.deployment import DeploymentRequest, check


@pytest.mark.parametrize(
    "request_",
    [
        DeploymentRequest("local"),
        DeploymentRequest("local", "meta-llama/Llama 3.1", weight=1_000_000, priority=1_000),
    ],
)
def test_a_deployment_is_a_backend_and_perhaps_its_own_name_for_the_model(
    request_: DeploymentRequest,
) -> None:
    assert check(request_) is request_


@pytest.mark.parametrize(
    ("request_", "fault"),
    [
        (DeploymentRequest("a", ""), "deployments[0].backend_model: 1 to 512 printable characters"),
        (DeploymentRequest("a", "x\ny"), "deployments[0].backend_model: 1 to 512 printable characters"),
        (DeploymentRequest("a", weight=0), "deployments[0].weight: 1 to 1000000, got 0"),
        (DeploymentRequest("a", priority=-1), "deployments[0].priority: 0 to 1000, got -1"),
    ],
)
def test_a_part_that_cannot_be_is_refused_with_its_place(request_: DeploymentRequest, fault: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(request_)
    assert str(refused.value) == fault
