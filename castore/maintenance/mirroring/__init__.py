"""Commits copied to the second directories of tiers."""
