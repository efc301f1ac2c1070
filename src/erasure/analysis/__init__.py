"""Computing on records without torch: gaps to gold, verdicts, intervals, comparisons of runs."""
