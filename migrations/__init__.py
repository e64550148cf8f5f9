"""The schema's history. Importable, so that an installed wheel can migrate; ``billing.infra.migrate`` runs it."""
