"""`billing up`: everything for one machine with nothing installed, on loopback, until Ctrl-C."""

import asyncio
import logging
import time
from collections.abc import Callable

import uvloop

from billing.app.machine import Machine, Phases, machine
from billing.app.ready import wait_until_ready
from billing.app.supervisor import POLL_INTERVAL_S, StopSignal
from billing.infra import log
from billing.infra.postgres import Database
from billing.infra.system import new_id, now_us, random_bytes
from billing.settings import Settings
from billing.tenants.service import TenantService

FIRST_STEPS = """No tenant yet. In another terminal, in this folder:
  billing backends add local --url http://127.0.0.1:8000 --engine vllm
  billing models add my-model --backend local
  billing tenants create acme
  billing keys create --tenant acme"""


def main(settings: Settings, show: Callable[[str], None]) -> None:
    """Run the machine until SIGTERM or SIGINT. ``show`` receives the lines meant for the operator."""
    log.set_up(logging.WARNING)
    phases = Phases(show)
    stop = StopSignal()
    with machine(settings, phases) as running:
        asyncio.run(wait_until_ready(running.gateway_url, running.settings.gateway.workers))
        phases.done(
            f"gateway answers on {running.gateway_url}/v1 with {running.settings.gateway.workers} workers"
        )
        show(uvloop.run(_next_steps(running)))
        show("Ctrl-C stops everything.")
        while not stop.received:
            time.sleep(POLL_INTERVAL_S)
            running.tick()
        show("stopping")


async def _next_steps(running: Machine) -> str:
    database = Database(running.settings.database_url or "", role="control", pool_size=1)
    try:
        tenants = await TenantService(database, now_us, new_id, random_bytes).list_tenants(2)
    finally:
        await database.close()
    if not tenants:
        return FIRST_STEPS
    return f"""  curl {running.gateway_url}/v1/models -H "Authorization: Bearer $KEY"
  billing usage --tenant {tenants[0].slug}"""
