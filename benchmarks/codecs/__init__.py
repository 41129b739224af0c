"""Chunk codecs, castore's and its peers', on the streams of real checkpoints: `python -m benchmarks codecs`."""
