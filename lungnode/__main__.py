"""`python -m lungnode`: the command line of this very environment; `up` starts its children so."""

from lungnode.cli import main

main()
