"""Learning across jobs: training the cost model, and what it tells of unseen workloads."""
