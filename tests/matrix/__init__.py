"""Every dialect in, every provider out: what survives each pair, judged by each vendor's own SDK.

`make matrix` runs all cells and writes docs/dialects.md; the tests run them too.
"""
