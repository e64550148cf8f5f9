"""How a migration runs SQL that asyncpg cannot prepare: several commands at once, or a plpgsql body with semicolons."""

from alembic import op
from sqlalchemy.util import await_only


def execute(sql: str) -> None:
    """Run one or many commands in the migration's transaction, by the simple query protocol, split nowhere."""
    connection = op.get_bind()
    # SQLAlchemy sends its BEGIN with its own first statement; what goes past it would otherwise run in autocommit.
    connection.exec_driver_sql("SELECT 1")
    await_only(connection.connection.driver_connection.execute(sql))


def execute_alone(sql: str) -> None:
    """Run SQL in a transaction of its own, committed at once, for what the whole Postgres cluster shares."""
    with op.get_context().autocommit_block():
        op.get_bind().exec_driver_sql(sql)
