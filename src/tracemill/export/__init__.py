"""Dataset versions as the files trainers read, each row checked against what it was made of."""
