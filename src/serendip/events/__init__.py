"""What an event sample is: columns and their roles, readers, writers, audits."""
