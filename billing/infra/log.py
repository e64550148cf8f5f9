"""Logging of a process: one line an event on standard error, times in UTC, no request's text ever (P13)."""

import logging
import time

FORMAT = "%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s"


def set_up(level: int = logging.INFO) -> None:
    """Send the log of this process to standard error."""
    formatter = logging.Formatter(FORMAT, "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
