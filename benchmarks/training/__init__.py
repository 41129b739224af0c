"""Small models trained for real on this machine's CPU, so that every benchmark sees real checkpoints."""
