"""What the records say: statistics, patterns of tool use, and reports a person can read. Reads only."""
