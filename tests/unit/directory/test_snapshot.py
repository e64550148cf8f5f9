"""The directory in memory: who a key stands for, where a model is asked for, and changes in any order."""

from typing import Any
from uuid import UUID

import msgspec
import pytest

from billing.directory.caller import ApiKey, Backend, Caller, Deployment, Model, Project, Target, Tenant
from billing.directory.prices import PlanHead, PlanVersion, Subscribed
from billing.directory.snapshot import (
    CALLERS_MAX,
    FORMAT,
    FORMAT_WITHOUT_PLANS,
    Changes,
    Snapshot,
    decode,
    encode,
)
from billing.errors import Forbidden, NotFound, Unauthenticated
from billing.limits.limit import Enforce, Limit, Meter, OnFailure

NOW_US = 1_795_500_000_000_000
TENANT = Tenant(UUID(int=1), "acme", "active", version=1)
PROJECT = Project(UUID(int=2), TENANT.id, archived=False, version=1)
KEY = ApiKey(UUID(int=3), TENANT.id, PROJECT.id, "ab" * 32, {"team": "a"}, None, revoked=False, version=1)
BACKEND = Backend(
    UUID(int=4), "gpu-1", "http://engine:8000", "vllm", "sk-secret", None, archived=False, version=1
)
MODEL = Model(UUID(int=5), "tiny", ("small", "acme/tiny"), archived=False, created_us=NOW_US, version=1)
PLACE = Deployment(UUID(int=6), MODEL.id, BACKEND.id, "weights", 1, 0, archived=False, version=1)
LIMIT = Limit(
    UUID(int=7),
    TENANT.id,
    None,
    None,
    None,
    Meter.REQUESTS,
    50,
    60,
    None,
    Enforce.ENFORCED,
    OnFailure.CLOSED,
    NOW_US,
)
PLAN = PlanHead(UUID(int=8), "gold", "USD", NOW_US, version=1)
PLAN_VERSION = PlanVersion(PLAN.id, 1, 0, msgspec.Raw(b'{"label":"list","rates":[]}'), version=1)
SUBSCRIBED = Subscribed(UUID(int=9), TENANT.id, PLAN.id, 0, None, version=1)
ALL = Changes(
    version=7,
    tenants=(TENANT,),
    projects=(PROJECT,),
    keys=(KEY,),
    backends=(BACKEND,),
    models=(MODEL,),
    deployments=(PLACE,),
    limits=(LIMIT,),
    plans=(PLAN,),
    plan_versions=(PLAN_VERSION,),
    subscriptions=(SUBSCRIBED,),
)


def changed(row: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(row, **changes)


def made(*changes: Changes) -> Snapshot:
    snapshot = Snapshot()
    for change in changes or (ALL,):
        snapshot.apply(change)
    return snapshot


def test_an_empty_directory_knows_nobody_and_nothing() -> None:
    empty = Snapshot()
    assert (empty.version, empty.models(), empty.backends(), Changes().empty) == (0, [], [], True)
    with pytest.raises(Unauthenticated):
        empty.caller(KEY.hash, NOW_US)
    with pytest.raises(NotFound):
        empty.model("tiny")


def test_a_key_stands_for_its_caller() -> None:
    snapshot = made()
    assert snapshot.caller(KEY.hash, NOW_US) == Caller(TENANT.id, "acme", PROJECT.id, KEY.id, {"team": "a"})
    assert repr(snapshot) == "<Snapshot v7 1 tenants, 1 keys, 1 models>"
    assert not ALL.empty


def test_a_key_without_a_project() -> None:
    snapshot = made(changed(ALL, keys=(changed(KEY, project_id=None),)))
    assert snapshot.caller(KEY.hash, NOW_US).project_id is None


REFUSALS = {
    "another hash": ({}, "cd" * 32, Unauthenticated, "incorrect API key"),
    "an empty hash": ({}, "", Unauthenticated, "incorrect API key"),
    "a hash in capitals": ({}, "AB" * 32, Unauthenticated, "incorrect API key"),
    "a revoked key": ({"keys": (changed(KEY, revoked=True),)}, KEY.hash, Unauthenticated, "revoked"),
    "an expired key": ({"keys": (changed(KEY, expires_us=NOW_US),)}, KEY.hash, Unauthenticated, "expired"),
    "an unknown tenant": ({"tenants": ()}, KEY.hash, Unauthenticated, "incorrect API key"),
    "a suspended tenant": (
        {"tenants": (changed(TENANT, status="suspended"),)},
        KEY.hash,
        Forbidden,
        "acme is suspended",
    ),
    "a closed tenant": (
        {"tenants": (changed(TENANT, status="closed"),)},
        KEY.hash,
        Forbidden,
        "acme is closed",
    ),
    "an archived project": ({"projects": (changed(PROJECT, archived=True),)}, KEY.hash, Forbidden, "project"),
}


@pytest.mark.parametrize(("changes", "key_hash", "kind", "says"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(changes: dict[str, Any], key_hash: str, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        made(changed(ALL, **changes)).caller(key_hash, NOW_US)


def test_a_key_is_good_until_the_instant_it_expires() -> None:
    snapshot = made(changed(ALL, keys=(changed(KEY, expires_us=NOW_US),)))
    assert snapshot.caller(KEY.hash, NOW_US - 1).key_id == KEY.id
    for late_us in (0, 1):
        with pytest.raises(Unauthenticated, match="expired"):
            snapshot.caller(KEY.hash, NOW_US + late_us)


def test_a_revoked_key_of_a_suspended_tenant_says_nothing_of_the_tenant() -> None:
    rows = {"keys": (changed(KEY, revoked=True),), "tenants": (changed(TENANT, status="suspended"),)}
    with pytest.raises(Unauthenticated):
        made(changed(ALL, **rows)).caller(KEY.hash, NOW_US)


def test_changes_take_effect() -> None:
    snapshot = made(ALL, Changes(version=8, keys=(changed(KEY, revoked=True, version=2),)))
    assert snapshot.version == 8
    with pytest.raises(Unauthenticated, match="revoked"):
        snapshot.caller(KEY.hash, NOW_US)


def test_applying_twice_changes_nothing() -> None:
    twice = made(ALL, ALL)
    assert twice.everything() == made().everything()
    assert twice.targets(MODEL) == (Target(PLACE, BACKEND),)


def test_older_changes_that_come_late_do_not_revive_what_was_revoked() -> None:
    snapshot = made(ALL, Changes(version=8, keys=(changed(KEY, revoked=True, version=8),)), ALL)
    assert snapshot.version == 8
    with pytest.raises(Unauthenticated, match="revoked"):
        snapshot.caller(KEY.hash, NOW_US)


@pytest.mark.parametrize("name", ["tiny", "small", "acme/tiny"])
def test_a_model_is_found_by_its_name_and_its_aliases(name: str) -> None:
    assert made().model(name) == MODEL


@pytest.mark.parametrize("name", ["Tiny", "tiny ", "", "weights"])
def test_any_other_name_is_a_model_not_found(name: str) -> None:
    with pytest.raises(NotFound) as refusal:
        made().model(name)
    assert refusal.value.param == "model"


def test_a_name_goes_before_another_models_alias() -> None:
    other = Model(UUID(int=9), "small", ("tiny",), archived=False, created_us=NOW_US, version=2)
    snapshot = made(ALL, Changes(version=8, models=(other,)))
    assert snapshot.model("small") == other
    assert snapshot.model("tiny") == MODEL


def test_an_alias_that_was_taken_away_is_forgotten() -> None:
    snapshot = made(ALL, Changes(version=8, models=(changed(MODEL, aliases=(), version=2),)))
    assert snapshot.model("tiny").aliases == ()
    with pytest.raises(NotFound):
        snapshot.model("small")


def test_an_archived_model_frees_its_names() -> None:
    heir = Model(UUID(int=9), "tiny", (), archived=False, created_us=NOW_US, version=2)
    snapshot = made(ALL, Changes(version=8, models=(changed(MODEL, archived=True, version=2), heir)))
    assert snapshot.model("tiny") == heir
    assert snapshot.targets(heir) == ()


def test_targets_come_best_priority_first_and_without_what_is_archived() -> None:
    gone = changed(BACKEND, id=UUID(int=8), name="gpu-2", archived=True)
    places = (
        changed(PLACE, id=UUID(int=60), priority=5),
        changed(PLACE, id=UUID(int=61), priority=1),
        changed(PLACE, id=UUID(int=62), archived=True),
        changed(PLACE, id=UUID(int=63), backend_id=gone.id),
        changed(PLACE, id=UUID(int=64), backend_id=UUID(int=999)),
    )
    snapshot = made(changed(ALL, backends=(BACKEND, gone), deployments=places))
    assert [target.deployment.id.int for target in snapshot.targets(MODEL)] == [61, 60]
    assert snapshot.backends() == [BACKEND]


def test_archiving_a_backend_takes_its_targets_away_and_reviving_it_brings_them_back() -> None:
    snapshot = made(ALL, Changes(version=8, backends=(changed(BACKEND, archived=True, version=2),)))
    assert snapshot.targets(MODEL) == ()
    assert snapshot.models() == []
    snapshot.apply(Changes(version=9, backends=(changed(BACKEND, version=3),)))
    assert snapshot.models() == [MODEL]


def test_a_backend_that_comes_after_its_deployment_serves() -> None:
    snapshot = made(changed(ALL, backends=()), Changes(version=8, backends=(BACKEND,)))
    assert snapshot.targets(MODEL) == (Target(PLACE, BACKEND),)


def test_models_that_something_serves_are_listed_once_by_name() -> None:
    idle = Model(UUID(int=9), "idle", (), archived=False, created_us=NOW_US, version=1)
    first = Model(UUID(int=10), "a-first", ("x", "y"), archived=False, created_us=NOW_US, version=1)
    place = changed(PLACE, id=UUID(int=70), model_id=first.id)
    snapshot = made(changed(ALL, models=(MODEL, idle, first), deployments=(PLACE, place)))
    assert snapshot.models() == [first, MODEL]


CALLER = Caller(TENANT.id, "acme", PROJECT.id, KEY.id, {})


def test_limits_of_tenant_project_and_key_for_the_model_or_for_all_count() -> None:
    others: tuple[dict[str, Any], ...] = (
        {"tenant_id": UUID(int=99)},
        {"project_id": UUID(int=99)},
        {"key_id": UUID(int=99)},
        {"model": "other"},
    )
    own: tuple[dict[str, Any], ...] = (
        {"key_id": KEY.id, "model": "tiny"},
        {"project_id": PROJECT.id},
        {"model": "tiny"},
        {"key_id": KEY.id},
    )
    rows = [changed(LIMIT, id=UUID(int=70 + number), **each) for number, each in enumerate((*others, *own))]
    snapshot = made(changed(ALL, limits=(LIMIT, *rows)))
    for _ in range(2):
        assert [limit.id.int for limit in snapshot.limits(CALLER, "tiny")] == [7, 76, 75, 74, 77]
        assert [limit.id.int for limit in snapshot.limits(CALLER, "large")] == [7, 75, 77]
    assert [
        limit.id.int
        for limit in snapshot.limits(changed(CALLER, project_id=None, key_id=UUID(int=4)), "tiny")
    ] == [7, 76]


def test_a_tenant_without_limits_has_none() -> None:
    assert made(changed(ALL, limits=())).limits(CALLER, "tiny") == ()
    assert made().limits(changed(CALLER, tenant_id=UUID(int=99)), "tiny") == ()


def test_a_changed_limit_counts_at_once_and_an_archived_one_no_more() -> None:
    snapshot = made()
    assert snapshot.limits(CALLER, "tiny") == (LIMIT,)
    more = changed(LIMIT, amount=99, version=8)
    snapshot.apply(Changes(version=8, limits=(more,)))
    assert snapshot.limits(CALLER, "tiny") == (more,)
    snapshot.apply(Changes(version=9, limits=(changed(more, archived=True, version=9),)))
    assert snapshot.limits(CALLER, "tiny") == ()
    assert snapshot.everything().limits == ()
    snapshot.apply(Changes(version=10, limits=(changed(LIMIT, id=UUID(int=8), archived=True, version=10),)))
    assert not Changes(version=10, limits=(LIMIT,)).empty


def test_remembered_limits_are_bounded() -> None:
    snapshot = made()
    for number in range(CALLERS_MAX + 1):
        snapshot.limits(CALLER, str(number))
    assert len(snapshot._limits_of_callers) == 1
    assert snapshot.limits(CALLER, "tiny") == (LIMIT,)


def test_a_copy_made_before_there_were_limits_is_read() -> None:
    fields = msgspec.json.decode(encode(ALL))
    del fields["limits"]
    assert decode(msgspec.json.encode(fields)) == changed(ALL, limits=())


def test_a_copy_made_before_there_were_settings_of_engines_and_models_is_read() -> None:
    fields = msgspec.json.decode(encode(ALL))
    del fields["backends"][0]["on_hang_up"]
    for name in ("reasoning_start", "reasoning_end", "tokenizer"):
        del fields["models"][0][name]
    assert decode(msgspec.json.encode(fields)) == ALL


def test_settings_of_engines_and_models_survive_the_copy() -> None:
    backend = changed(BACKEND, on_hang_up="drain")
    model = changed(MODEL, reasoning_start="<think>", reasoning_end="</think>", tokenizer="llama3")
    copy = decode(encode(made(changed(ALL, backends=(backend,), models=(model,))).everything()))
    assert (copy.backends, copy.models) == ((backend,), (model,))


def test_a_copy_of_a_program_that_knew_no_plans_is_read_and_all_of_it_asked_for_again() -> None:
    fields = msgspec.json.decode(encode(ALL))
    for name in ("plans", "plan_versions", "subscriptions"):
        del fields[name]
    older = decode(msgspec.json.encode(fields | {"format": FORMAT_WITHOUT_PLANS}))
    snapshot = made(older)
    assert snapshot.caller(KEY.hash, NOW_US).key_id == KEY.id
    assert (snapshot.version, snapshot.prices.terms(TENANT.id), older.format) == (0, (), FORMAT)
    snapshot.apply(ALL)
    assert snapshot.prices.terms(TENANT.id)[0].plan.name == "gold"


def test_what_prices_a_tenant_is_a_change() -> None:
    alone = (
        Changes(plans=(PLAN,)),
        Changes(plan_versions=(PLAN_VERSION,)),
        Changes(subscriptions=(SUBSCRIBED,)),
    )
    assert not any(changes.empty for changes in alone)


def test_the_whole_survives_its_copy_on_disk() -> None:
    copy = decode(encode(made().everything()))
    assert copy == ALL
    assert made(copy).caller(KEY.hash, NOW_US).key_id == KEY.id
    assert made(copy).targets(MODEL) == (Target(PLACE, BACKEND),)


BROKEN = {
    "nothing": b"", "no JSON": b"x", "half of it": encode(ALL)[:-20], "a list": b"[]", "bytes": b"\xff\xfe",
    "text that is no UTF-8": b'{"tenants":[{"slug":"\xff"}]}', "rows of other types": b'{"keys":[1]}',
    "nesting without end": b'{"keys":' + b"[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_copy_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - UTF-8 faults have a sentence of their own
        decode(data)


def test_a_copy_of_another_format_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=f"format {FORMAT + 1}, this program reads {FORMAT}"):
        decode(encode(changed(ALL, format=FORMAT + 1)))
