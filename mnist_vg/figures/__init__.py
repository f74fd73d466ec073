"""From a run's records to Matplotlib figures."""
