"""Which clock tells what a run takes.

With one intra-op thread on the CPU, onnxruntime works in the thread that calls it. That thread's
CPU time is then the latency on an idle machine, and what other processes do in between does not
count. Otherwise it is the time on the wall.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from onnx_scsp.graph.session import CPU

_FINE_S = 1e-6


def clock_for(threads: int, provider: str) -> Callable[[], float]:
    """A clock in seconds.

    Args:
        threads: Intra-op threads of what is timed.
        provider: Its execution provider.

    Returns:
        CPU time of the thread where that is the latency and the system counts it finely, else
        the time on the wall.
    """
    is_fine = time.get_clock_info("thread_time").resolution <= _FINE_S
    return time.thread_time if threads == 1 and provider == CPU and is_fine else time.perf_counter
