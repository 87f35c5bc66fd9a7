"""Behaviour to training examples: a recipe read over the store becomes an immutable, reproducible dataset version."""
