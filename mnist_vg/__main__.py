"""`python -m mnist_vg`."""

from mnist_vg.cli import main

main()
