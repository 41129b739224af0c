"""Benchmarks of castore on trajectories that it trains itself: `python -m benchmarks --help`."""
