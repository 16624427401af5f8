"""Files written whole or not at all, JSON, and units: what every other room needs to read and write."""
