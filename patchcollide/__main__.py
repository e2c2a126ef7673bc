"""``python -m patchcollide``."""

from patchcollide.cli import main

main()
