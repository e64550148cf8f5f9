"""The image and the compose file, which cannot run here, are at least what they say: pinned, checked, unprivileged."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.architecture.source import ROOT, Fault, listing, write_tree

COMPOSE = "docker-compose.yml"
DOCKERFILE = "deploy/Dockerfile"
SERVICES = {"postgres", "valkey", "migrate", "gateway", "recorder", "control"}
LOCKED_INSTALL = "--require-hashes"
OFFLINE_INSTALL = "--no-index"


def compose_faults(root: Path) -> list[Fault]:
    """What is missing or careless in the compose file."""
    compose = yaml.safe_load((root / COMPOSE).read_text())
    services = compose.get("services", {})
    texts = [f"services are {sorted(services)}"] if set(services) != SERVICES else []
    volumes = set(compose.get("volumes", {}))
    for name, service in services.items():
        texts += [f"{name}: {text}" for text in _service_faults(service, services, volumes)]
    texts += _spool_faults(services)
    return [Fault(COMPOSE, 1, text) for text in texts]


def _service_faults(service: dict[str, Any], services: dict[str, Any], volumes: set[str]) -> list[str]:
    one_shot = service.get("restart") == "no"
    texts = []
    if not _is_pinned(service.get("image", "")):
        texts.append(f"image {service.get('image')} is not pinned to a version")
    if not one_shot and "healthcheck" not in service and not _has_own_check(service):
        texts.append("no healthcheck")
    texts += [
        f"port {port} listens beyond 127.0.0.1"
        for port in service.get("ports", [])
        if not port.startswith("127.0.0.1:")
    ]
    mounted = {volume.partition(":")[0] for volume in service.get("volumes", [])}
    texts += [f"volume {name} is not declared" for name in sorted(mounted - volumes)]
    texts += [
        f"secret {name} is written out"
        for name, value in service.get("environment", {}).items()
        if _is_secret(name, value)
    ]
    for other, wanted in service.get("depends_on", {}).items():
        ends = services.get(other, {}).get("restart") == "no"
        right = "service_completed_successfully" if ends else "service_healthy"
        if other not in services or wanted.get("condition") != right:
            texts.append(f"depends on {other} without {right}")
    return texts


def _is_pinned(image: str) -> bool:
    return re.fullmatch(r"[\w./\-]+:\d[\w.\-]*", image) is not None


def _has_own_check(service: dict[str, Any]) -> bool:
    """The image's own check asks the gateway's port, so it is the gateway's alone."""
    return "build" in service and service.get("command", [""])[0] == "gateway"


def _is_secret(name: str, value: str) -> bool:
    return any(word in name for word in ("PASSWORD", "AUTH", "_URL")) and "${" not in value


def _spool_faults(services: dict[str, Any]) -> list[str]:
    """The recorder reads what the gateway writes: the same volume at the same place, where both look for it."""
    pair = [services.get(name, {}) for name in ("gateway", "recorder")]
    places = [set(service.get("volumes", [])) for service in pair]
    if not places[0] & places[1]:
        return ["gateway and recorder share no spool volume"]
    shared = {volume.partition(":")[2] for volume in places[0] & places[1]}
    folders = {service.get("environment", {}).get("BILLING_DATA_DIR") for service in pair}
    return [] if folders == shared else [f"spools are looked for in {folders}, mounted at {shared}"]


def dockerfile_faults(root: Path) -> list[Fault]:
    """What is missing or careless in the Dockerfile."""
    lines = _instructions((root / DOCKERFILE).read_text())
    last = lines[max(index for index, (word, _) in enumerate(lines) if word == "FROM") :]
    users = [rest for word, rest in last if word == "USER"]
    texts = [
        f"{rest}: not pinned to a version"
        for word, rest in lines
        if word == "FROM" and not _is_pinned(rest.split()[0])
    ]
    if not users or users[-1].partition(":")[0] in {"root", "0"}:
        texts.append("runs as root")
    texts += [f"no {word}" for word in ("HEALTHCHECK", "ENTRYPOINT") if word not in dict(last)]
    texts += [
        f"{command}: unlocked or cached install"
        for _, rest in lines
        for command in _installs(rest)
        if not _is_locked(command)
    ]
    sources = [
        part for word, rest in lines if word == "COPY" and "--from" not in rest for part in rest.split()[:-1]
    ]
    texts += [f"copies {source}, which does not exist" for source in sources if not (root / source).exists()]
    return [Fault(DOCKERFILE, 1, text) for text in texts]


def _instructions(text: str) -> list[tuple[str, str]]:
    body = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [
        (word, rest.strip())
        for word, _, rest in (line.strip().partition(" ") for line in body.splitlines() if line.strip())
    ]


def _installs(run: str) -> list[str]:
    return [command.strip() for command in run.split("&&") if re.search(r"\bpip (install|wheel)\b", command)]


def _is_locked(command: str) -> bool:
    words = shlex.split(command)
    return "--no-cache-dir" in words and (LOCKED_INSTALL in words or OFFLINE_INSTALL in words)


CHECKS = [compose_faults, dockerfile_faults]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_is_deployed_is_pinned_checked_and_unprivileged(check: Callable[[Path], list[Fault]]) -> None:
    assert not (faults := check(ROOT)), listing(faults)


def test_the_image_is_built_from_what_the_context_lets_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = [part for word, rest in _instructions((ROOT / DOCKERFILE).read_text()) if word == "COPY" and "--from" not in rest
              for part in rest.split()[:-1]]  # fmt: skip
    let_through = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert {"deploy/*.lock" if name.endswith(".lock") else name for name in copied} == let_through


def seeded(root: Path, file: str, old: str, new: str) -> Path:
    """The project's own two files with one change, in a tree that holds what they copy."""
    texts = {name: (ROOT / name).read_text() for name in (COMPOSE, DOCKERFILE)}
    assert old in texts[file], f"{old!r} is not in {file}: the seed is stale"
    texts[file] = texts[file].replace(old, new)
    copied = ("pyproject.toml", "README.md", "LICENSE", "deploy/requirements.lock", "deploy/build-requirements.lock",
              "billing/__init__.py", "migrations/__init__.py")  # fmt: skip
    return write_tree(root, dict.fromkeys(copied, "") | texts)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("image: postgres:18", "image: postgres:latest", "postgres: image postgres:latest is not pinned to a version"),
        ("image: postgres:18", "image: postgres", "postgres: image postgres is not pinned to a version"),
        ('"127.0.0.1:8090:8090"', '"8090:8090"', "gateway: port 8090:8090 listens beyond 127.0.0.1"),
        ("POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?write it into .env}", "POSTGRES_PASSWORD: secret",
         "postgres: secret POSTGRES_PASSWORD is written out"),
        ("  spool:\n", "", "gateway: volume spool is not declared"),
        ('spools\n    volumes: ["spool:/var/lib/billing"]', "spools",
         "gateway and recorder share no spool volume"),
        ("migrate: {condition: service_completed_successfully}", "migrate: {condition: service_started}",
         "gateway: depends on migrate without service_completed_successfully"),
    ],
)  # fmt: skip
def test_seeded_compose(old: str, new: str, fault: str, tmp_path: Path) -> None:
    assert fault in [found.text for found in compose_faults(seeded(tmp_path, COMPOSE, old, new))]


def test_seeded_service_without_a_healthcheck(tmp_path: Path) -> None:
    compose = yaml.safe_load((ROOT / COMPOSE).read_text())
    del compose["services"]["valkey"]["healthcheck"]
    del compose["services"]["recorder"]["healthcheck"]
    del compose["services"]["migrate"]
    found = [fault.text for fault in compose_faults(write_tree(tmp_path, {COMPOSE: yaml.safe_dump(compose)}))]
    assert found[0] == "services are ['control', 'gateway', 'postgres', 'recorder', 'valkey']"
    assert {"valkey: no healthcheck", "recorder: no healthcheck"} < set(found)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("FROM python:3.13-slim AS build", "FROM python AS build", "python AS build: not pinned to a version"),
        ("USER 10001", "USER root", "runs as root"),
        ("USER 10001", "", "runs as root"),
        ("HEALTHCHECK", "LABEL", "no HEALTHCHECK"),
        ("--no-cache-dir --require-hashes -r /locks/requirements.lock", "-r /locks/requirements.lock",
         "/opt/billing/bin/pip install -r /locks/requirements.lock: unlocked or cached install"),
        ("COPY billing ./billing", "COPY billings ./billing", "copies billings, which does not exist"),
    ],
)  # fmt: skip
def test_seeded_dockerfile(old: str, new: str, fault: str, tmp_path: Path) -> None:
    assert [found.text for found in dockerfile_faults(seeded(tmp_path, DOCKERFILE, old, new))] == [fault]
