"""Time of what GPUs say to each other: all-reduce, all-to-all, from stage to stage.

Within a node of NVLink or its like, engines reduce with kernels of their own: their
constant is fitted (`ServingConstants.reduction_s`), bytes go at the link's rate. Over
PCIe and between nodes NCCL's own model of latency is added.
"""

import math

import msgspec

SHARE = 0.7  # of a link's published rate that a collective reaches, as in `serving_time`
# NCCL, src/graph/tuning.cc, LL protocol, tree: base latency, and a hop's.
BASE_S = 6.8e-6
NVLINK_HOP_S, PCIE_HOP_S, NETWORK_HOP_S = 0.6e-6, 1.0e-6, 5.0e-6
# Bytes/s of 16 lanes, one direction, by PCIe generation.
_PCIE_LANE = {"3.0": 0.985e9, "4.0": 1.969e9, "5.0": 3.938e9, "6.0": 7.563e9}


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Links of a GPU, bytes/s one way: `near` to the `node` GPUs of its node, `far` beyond.

    `switched`: near is NVLink or its like, not PCIe.
    """

    node: int
    near_bytes_per_s: float
    far_bytes_per_s: float
    switched: bool

    @property
    def near_hop_s(self) -> float:
        """Latency of a hop in the node."""
        return NVLINK_HOP_S if self.switched else PCIE_HOP_S


def pcie_bytes_per_s(text: str | None) -> float:
    """Bytes/s one way of a slot such as '5.0 x16'; of PCIe 4.0 x16 where none is named.

    PCI-SIG: 8, 16, 32 GT/s a lane with 128b/130b encoding; 64 GT/s in flits.

    >>> round(pcie_bytes_per_s("5.0 x8") / 1e9, 1)
    31.5
    """
    generation, _, lanes = (text or "4.0 x16").partition(" x")
    rate = _PCIE_LANE.get(generation.split("/")[0], _PCIE_LANE["4.0"])
    return rate * int(lanes if lanes.isdigit() else 16)


def all_reduce_s(n_bytes: float, ranks: int, links: Links) -> float:
    """Seconds that `ranks` GPUs take to sum `n_bytes` that each of them holds.

        ring in a node of g        2 (g - 1)/g · bytes / near
        and over k nodes         + 2 (k - 1)/k · bytes/g / far
        latency (PCIe, nodes)      base + 2 ((g - 1) · hop + log2(k) · network hop)

    Unit: seconds. Source: Patarasu and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002 (ring);
    NCCL, src/graph/tuning.cc (latency of a tree over nodes, low-latency protocol).

    >>> h100 = Links(node=8, near_bytes_per_s=450e9, far_bytes_per_s=50e9, switched=True)
    >>> round(all_reduce_s(16 * 2**20, 8, h100) * 1e6, 1)
    93.2
    """
    if ranks == 1:
        return 0.0
    inside = min(ranks, links.node)
    nodes = -(-ranks // links.node)
    moved = 2 * (inside - 1) / inside * n_bytes / (SHARE * links.near_bytes_per_s)
    moved += 2 * (nodes - 1) / nodes * n_bytes / inside / (SHARE * links.far_bytes_per_s)
    if links.switched and nodes == 1:
        return moved
    hops = (inside - 1) * links.near_hop_s + math.log2(nodes) * NETWORK_HOP_S
    return moved + BASE_S + 2 * hops


def all_to_all_s(n_bytes: float, ranks: int, links: Links) -> float:
    """Seconds in which each of `ranks` GPUs deals `n_bytes` out evenly to all of them.

    (ranks - 1)/ranks of them leave it, in the node and beyond at once: the slower counts.

    Unit: seconds. Source: Lepikhin et al. 2020, arXiv:2006.16668 (dispatch and combine of
    experts); latency as in `all_reduce_s`.

    >>> h100 = Links(node=8, near_bytes_per_s=450e9, far_bytes_per_s=50e9, switched=True)
    >>> all_to_all_s(2**20, 16, h100) > 2 * all_to_all_s(2**20, 8, h100)
    True
    """
    if ranks == 1:
        return 0.0
    inside = min(ranks, links.node)
    near_s = n_bytes * (inside - 1) / ranks / (SHARE * links.near_bytes_per_s)
    far_s = n_bytes * (ranks - inside) / ranks / (SHARE * links.far_bytes_per_s)
    hop_s = NETWORK_HOP_S if ranks > inside else links.near_hop_s
    return max(near_s, far_s) + BASE_S + hop_s


def send_s(n_bytes: float, links: Links, *, far: bool) -> float:
    """Seconds from one pipeline stage to the next: bytes at the link's rate, and its latency.

    Unit: seconds. Source: Huang et al. 2018, arXiv:1811.06965 (activations between
    stages); latency as in `all_reduce_s`.

    >>> h100 = Links(node=8, near_bytes_per_s=450e9, far_bytes_per_s=50e9, switched=True)
    >>> round(send_s(2**20, h100, far=True) * 1e6, 1)
    41.8
    """
    rate = links.far_bytes_per_s if far else links.near_bytes_per_s
    hop_s = NETWORK_HOP_S if far else links.near_hop_s
    return BASE_S + hop_s + n_bytes / (SHARE * rate)
