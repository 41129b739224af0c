"""Adapters for training frameworks, one file each: a framework is imported when its adapter is used, never by castore.

The adapter of `torch.distributed.checkpoint` belongs here too, as `dcp.py`, when it comes.
"""
