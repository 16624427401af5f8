"""``python -m serendip``."""

from serendip.cli.main import main

main()
