"""What a report shows of looks without a cut: weights, and the evidence of each fold."""
