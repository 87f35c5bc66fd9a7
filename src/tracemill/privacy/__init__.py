"""What people are owed: erasure that reaches everything, their data in their hands, and a log of who did what."""
