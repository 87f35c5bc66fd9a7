"""The records and the small rules everything else is built on. Imports nothing of tracemill."""
