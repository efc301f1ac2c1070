"""A Ray cluster of two nodes on this machine, for as long as standard input stays open; each line read replaces the second node."""

import json
import sys

from ray.cluster_utils import Cluster

# A node that is gone is noticed in seconds, not in half a minute.
_HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 5,
}
_NODE = {"num_cpus": 1, "object_store_memory": 128 * 2**20}


def _second(cluster: Cluster) -> None:
    """Add a node, and tell its process."""
    raylet = cluster.add_node(**_NODE).all_processes["raylet"][0].process.pid
    sys.stdout.write(json.dumps({"address": cluster.address, "raylet": raylet}) + "\n")
    sys.stdout.flush()


def main() -> None:
    head = {**_NODE, "include_dashboard": False, "no_monitor": True, "temp_dir": sys.argv[1], "_system_config": _HEALTH}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        _second(cluster)
        for _ in sys.stdin:
            lost = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
            cluster.remove_node(lost, allow_graceful=False)
            _second(cluster)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
