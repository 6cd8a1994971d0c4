"""`python -m expkit.cli` is `exp`."""

from expkit.cli import main

main()
