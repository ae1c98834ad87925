"""``python -m evstream``."""

from evstream.cli import main

main()
