"""From a run's records to a verdict: which layer is sick, of what, by which number."""
