"""What people, programs and judges said of interactions, joined to them when it is read."""
