"""Event samples: columns and their roles, readers, writers, audits."""
