"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
Create Date: ${create_date}
"""

from migrations.statements import execute

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """Do one thing, expand before contract: old and new processes run beside each other while this is rolled out."""
    ${upgrades if upgrades else 'execute("")'}


def downgrade() -> None:
    """Undo it, and leave roles and extensions alone: other databases of the cluster use them."""
    ${downgrades if downgrades else 'execute("")'}
