"""Trains, calibrates and evaluates models."""
