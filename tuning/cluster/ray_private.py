"""The only uses of Ray's private interface, each where Ray has no public one.

``tests/tuning/cluster/test_ray_private.py`` fails with a release of Ray that changes them.
"""

from ray._private import ray_constants
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RpcError


def listen_on_loopback() -> None:
    """Let the cluster that this process starts next listen on loopback only.

    Ray otherwise takes an address that other machines reach, and listens on all. The switch is the
    process's, which joins a cluster or starts its own, never both.
    """
    ray_constants.ENABLE_RAY_CLUSTER = False


def refuses_token(address: str) -> bool:
    """Return whether the cluster at an address refuses this user's token.

    ``ray.init`` would try for long, and say only that it cannot connect.
    """
    try:
        GcsClient(address=address)
    except AuthenticationError:
        return True
    except RpcError:  # ray.init reports other errors
        return False
    return False
