"""The Ray cluster: connecting to one or starting a local one, and noticing what is missing or lost."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import ray

from llama_index_mm_zhipu.reporting import errors_only, report

_CONNECT_SECONDS = 5.0


@contextmanager
def connected(address: str | None, cpus: float) -> Iterator[None]:
    """Use the Ray cluster of this process, or connect to one, or start a local one until the block ends.

    Args:
        address: Address of a cluster, such as ``"10.0.0.1:6379"`` or ``"auto"``. None takes the cluster that this
            process is connected to, else that of ``RAY_ADDRESS``, else a local one.
        cpus: CPUs that a local cluster has at least, even if the machine has fewer cores.

    Raises:
        ConnectionError: There is no cluster at the address.
        ValueError: The address is that of a Ray client, or this process is connected to another cluster.
    """
    if ray.is_initialized():
        _require_same(address)
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or None
    # Ray's warnings are about its own security token and progress bars.
    with errors_only("ray"):
        if address is None:
            report("Starting a local Ray cluster …")
            local_cpus = max(os.cpu_count() or 1, math.ceil(cpus))
            ray.init(address="local", num_cpus=local_cpus, include_dashboard=False, logging_level=logging.ERROR)
        else:
            _require_no_client(address)
            _require_listening(address)
            try:
                ray.init(address=address, logging_level=logging.ERROR)
            except (ConnectionError, ValueError) as error:
                raise ConnectionError(f"cannot connect to a Ray cluster at {address}: {error}") from None
    try:
        yield
    finally:
        ray.shutdown()


def require_resources(cpus: float, gpus: float) -> None:
    """Check that all actors fit into the cluster at all; Ray would wait for ever, without a word.

    Raises:
        ValueError: They do not.
    """
    have = _resources()
    for kind, needed in (("CPU", cpus), ("GPU", gpus)):
        if needed > have.get(kind, 0):
            raise ValueError(
                f"the actors need {needed:g} {kind}s, and the Ray cluster has {have.get(kind, 0):g}: give fewer actors "
                f"(num_actors), or less of a {kind} to each, or start Ray with more"
            )


def actors_that_fit(cpus: float, gpus: float, reserved_cpus: float) -> int:
    """Return how many actors fit into the cluster, at least 1.

    Args:
        cpus: CPUs of an actor.
        gpus: GPUs of an actor.
        reserved_cpus: CPUs for other actors.
    """
    have = _resources()
    fitting = [int((have.get("CPU", 0) - reserved_cpus) // cpus)] if cpus else []
    if gpus:
        fitting.append(int(have.get("GPU", 0) // gpus))
    return max(1, min(fitting, default=1))


def this_machine() -> dict[str, str]:
    """Return the label of the driver's machine, for work that must run there."""
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


class Nodes:
    """The machines of the cluster at one time, to notice when one is lost.

    Args:
        cpus: CPUs of all actors.
        gpus: GPUs of all actors.
    """

    def __init__(self, cpus: float, gpus: float) -> None:
        self._needed = (cpus, gpus)
        self._known = _living_nodes()

    def require_all(self) -> None:
        """Check that the cluster still has what the actors need.

        Ray starts the actors of a lost machine again on others, and waits without a word if there is no room.

        Raises:
            ConnectionError: A machine is lost, and the others have too few CPUs or GPUs.
        """
        lost = {node: name for node, name in self._known.items() if node not in _living_nodes()}
        if not lost:
            return
        try:
            require_resources(*self._needed)
        except ValueError as error:
            names = ", ".join(lost.values())
            raise ConnectionError(
                f"the Ray cluster lost {names}, and {error}; what was embedded so far is stored, and the next run "
                "continues"
            ) from None


def _resources() -> dict[str, float]:
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return found


def _living_nodes() -> dict[str, str]:
    return {
        node["NodeID"]: f"{node['NodeManagerAddress']} (node {node['NodeID'][:8]})"
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    }


def _require_same(address: str | None) -> None:
    connected_to = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", "local", connected_to):
        raise ValueError(
            f"this process is connected to the Ray cluster at {connected_to}, not to {address}; call ray.shutdown() "
            "before, or give no address"
        )


def _require_no_client(address: str) -> None:
    if address.startswith("ray://"):
        raise ValueError(
            f"{address} is the address of a Ray client: sources are read and parts are stored by this process, so call "
            "embed_dataset on a machine of the cluster, with its address without ray://, such as 10.0.0.1:6379"
        )


def _require_listening(address: str) -> None:
    """Check that something listens at an address: Ray ends the process if nothing does, after two minutes.

    Raises:
        ConnectionError: Nothing listens there.
    """
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConnectionError(f"{address!r} is no address of a Ray cluster, such as 10.0.0.1:6379") from None
    if host is None or port is None:
        # "auto" and "local", which Ray resolves itself
        return
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(
            f"there is no Ray cluster at {address} ({error}): start one with `ray start --head`, or give no address "
            "for a local one"
        ) from None
