"""`python -m scale_assets` is `scale`."""

from scale_assets.cli import main

main()
