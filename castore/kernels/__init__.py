"""The inner loops: arrays in, arrays out, the caller allocates; no GIL, no allocation, no Python objects.

`planes` is the typed surface, `native` the Numba code behind it (imported only when a chunk is big enough to pay
for it), `reference` what each kernel means, in NumPy. Importing this package loads none of them.
"""
