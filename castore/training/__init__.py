"""The training loop's door: when to commit, and how to go on."""
