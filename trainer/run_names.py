"""Names in a run folder that others look for as well; imported without what trains."""

from typing import Final

SAMPLES_FILE: Final = "samples.csv"
LOCK_FILE: Final = "state/lock"  # held with flock(LOCK_EX) while a program trains
