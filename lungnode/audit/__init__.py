"""Audit messages of PS3.15 A.5: who did what to whose data, as XML that an audit repository understands."""
