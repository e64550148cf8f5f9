"""The local durable log of one gateway worker: a plain folder of append-only segments (docs/decisions/0003-spool.md).

``<spool_dir>/<id>.spool/`` holds ``lock``, which the worker keeps locked as long as it lives; ``reserve``, whose blocks
are given back when the disk is full; and the segments. The worker writes with :class:`Spool`; the recorder reads with
:class:`SpoolReader` and removes what is shipped and old.
"""

from billing.metering.spool.reader import SpoolReader
from billing.metering.spool.writer import Spool

__all__ = ["Spool", "SpoolReader"]
