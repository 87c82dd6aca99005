"""``python -m ovsnet.cli`` is ``ovsnet``."""

from ovsnet.cli import main

main()
