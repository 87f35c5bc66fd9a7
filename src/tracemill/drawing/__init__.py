"""Numbers with what they are worth, how people read them, and pages that show them: no network, no script, no font."""
