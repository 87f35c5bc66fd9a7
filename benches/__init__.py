"""Benchmarks. `python -m benches` runs all of them, `python -m benches.NAME` one; results go to benches/results."""
