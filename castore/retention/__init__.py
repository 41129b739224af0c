"""Which states of a store are kept and which are dropped: pure functions of commits, refs, pins and the time."""
