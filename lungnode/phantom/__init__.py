"""Synthetic chest CT studies: demonstrations, tests and load need no patient."""

from lungnode.phantom.study import Patient, PhantomStudy, phantom_study

__all__ = ["Patient", "PhantomStudy", "phantom_study"]
