"""Lightspeed's protocol: questions answered through a model, feedback on the answers, and both as JSON files."""
