"""The training loop's rooms: when to commit, how without the loop waiting, and how to go on."""
