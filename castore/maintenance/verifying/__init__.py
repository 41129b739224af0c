"""Commits restored in a fresh process."""
