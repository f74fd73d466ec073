"""Grids of networks: trained together, and read as one table."""
