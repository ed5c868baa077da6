"""Speed and memory against the peers, as ratios within one run: `python -m tests.benchmarks`."""
