"""Runs and feedback as LangSmith's clients send them."""
