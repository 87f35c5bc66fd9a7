"""What clients of other tools send beside traces: scores, annotations, assessments, logged calls."""
