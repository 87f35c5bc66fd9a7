"""The HTTP server: thin handlers over the workspace."""
