"""`python -m lungnode`: the command line of this very environment; `up` starts its children so."""

from lungnode.cli import main

if __name__ == "__main__":  # processes that a training spawns import this module under another name
    main()
