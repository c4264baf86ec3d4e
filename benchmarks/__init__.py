"""What the pipeline costs, measured beside what else one could use: `python -m benchmarks.compare --help`."""
