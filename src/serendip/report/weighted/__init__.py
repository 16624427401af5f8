"""Parts of a report for looks without a cut: weights, and the evidence of each fold."""
