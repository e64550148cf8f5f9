"""The accounts of a tenant. Names are stored: they are added to and never renamed."""

from enum import StrEnum


class Account(StrEnum):
    """What a posting stands on; debits are positive, credits negative."""

    RECEIVABLE = "receivable"
    """What the tenant owes: an asset, so a positive balance is money to come."""
    REVENUE = "revenue"
    """What was earned: a negative balance is money earned."""
