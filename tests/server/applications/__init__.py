"""Small applications as their users write them, run as processes of their own against a running server."""
