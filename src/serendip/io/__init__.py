"""Files written whole or not at all, JSON, and units: basic reading and writing for all other rooms."""
