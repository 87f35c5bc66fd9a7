"""How good a record is, and whether it says anything new: text, executions, decisions, duplicates. Reads records only."""
