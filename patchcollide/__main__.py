"""``python -m patchcollide.cli``."""

from patchcollide.cli import main

main()
