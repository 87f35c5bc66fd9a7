"""The documents a version carries: what its rows are, came from, are good for, and whom they speak of.

Pure functions of the rows, the recipe and what was counted on the way; made once, at build. They hold counts, and names of
tools, platforms and models. Nothing of what anybody wrote is in them, so that erasure need not look for it here.
"""
