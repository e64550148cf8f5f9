"""The recorder, from every spool of this host to usage records and rollups, and looking them up again."""

from billing.metering.service.recorder import Counters, Recorder
from billing.metering.service.usage import UsageService

__all__ = ["Counters", "Recorder", "UsageService"]
