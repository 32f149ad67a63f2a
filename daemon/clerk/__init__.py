"""Indexes the spool, judges completeness, dispatches analyses."""
