"""Deltas placed anew, small packs merged."""
