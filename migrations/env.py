"""Run by Alembic for every command. The connection, its timeouts and the lock are made by ``billing.infra.migrate``."""

import importlib
import importlib.util
import pkgutil
from typing import Any

from alembic import context

import billing
from billing.infra.postgres import metadata


def load_tables() -> None:
    """Import the ``tables.py`` of every noun, so that ``metadata`` holds what exists in Python."""
    for noun in pkgutil.iter_modules(billing.__path__, "billing."):
        if noun.ispkg and importlib.util.find_spec(f"{noun.name}.tables"):
            importlib.import_module(f"{noun.name}.tables")


def is_compared(_object: Any, name: str | None, kind: str, reflected: bool, _compare_to: Any) -> bool:
    """Whether ``check`` looks at an object: partitions, and tables that no noun has described, are not compared."""
    return not (kind == "table" and reflected and name not in metadata.tables)


def run() -> None:
    """Migrate, one transaction a migration, so that a failure leaves the schema at the last whole one."""
    load_tables()
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        transaction_per_migration=True,
        include_object=is_compared,
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
