"""The archive: sealed objects in a folder or a bucket, read as if their rows were still in the database."""
