"""Indexes what the receiver stored, judges completeness, wakes the workers."""

from daemon.clerk.main import run

__all__ = ["run"]
