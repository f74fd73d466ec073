"""The benchmark's peers, in C and in JAX: they train what the package trains."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import _peers

STEPS = 10


def first_losses(folder, peer, activation):
    """The losses of a peer that finds its work in the folder."""
    command = _peers.jax_script() if peer == "JAX" else _peers.c_loop(folder)
    if command is None:
        pytest.skip(f"{peer} is not on this machine")
    losses = _peers.train(command, folder, activation)["first_losses"]
    assert len(losses) == STEPS
    return losses


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "leaky_relu"])
@pytest.mark.parametrize("peer", ["C", "JAX"])
def test_a_peer_trains_as_the_package_does(peer, activation, mnist, tmp_path):
    weights = _peers.write_work(tmp_path, mnist.train, STEPS)
    losses = first_losses(tmp_path, peer, activation)
    _peers.check(losses, activation, weights, mnist)


def test_a_peer_that_trains_another_network_is_found(mnist, tmp_path):
    weights = _peers.write_work(tmp_path, mnist.train, STEPS)
    losses = first_losses(tmp_path, "C", "leaky_relu")
    with pytest.raises(AssertionError):
        _peers.check(losses, "relu", weights, mnist)
