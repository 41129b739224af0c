"""All that is readable of a badly damaged store, in a new one."""
