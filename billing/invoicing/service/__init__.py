"""What to bill: load rows and prices, let pure code decide, save."""

from billing.invoicing.service.invoicing import InvoicingService, Preview, UsageReport

__all__ = ["InvoicingService", "Preview", "UsageReport"]
