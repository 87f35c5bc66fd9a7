"""What runs inside other people's applications: capture that never raises, never blocks, and counts what it loses."""
