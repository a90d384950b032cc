"""`python -m deice`, as torchrun starts it."""

from deice.cli import main

main()
