"""Several hosts on this machine: what happens when one is cut off, killed or upgraded."""
