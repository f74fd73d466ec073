"""The compiled training block, and what runs it."""
