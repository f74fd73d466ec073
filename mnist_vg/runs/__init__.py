"""Run folders: what they hold, and how to read it back."""
