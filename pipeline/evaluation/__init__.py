"""What answers are worth: metrics, intervals, confidence, comparison, curves, judge."""
