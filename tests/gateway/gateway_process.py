"""A gateway in a process of its own, for tests that stop, kill or torment it.

Run as ``python gateway_process.py UPSTREAM STORE KEYS [SETTING=NUMBER ...]``; prints its port
when it answers. The upstream ``slow`` is a model of this process that takes a moment, with an
estimator that takes longer.
"""

from __future__ import annotations

import asyncio
import sys
import time

import serving


class Slow(serving.Counted):
    async def infer(self, model, version, query):
        await asyncio.sleep(0.02)
        return await super().infer(model, version, query)


class SlowEstimator:
    reads_scores = False

    def log_q(self, x, *, scores=None):
        time.sleep(0.05)
        return serving.np.full(len(x), -1.0)


def tell(port):
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def main(upstream, store, keys, *settings):
    from assay.gateway.metrics import Metrics
    from assay.gateway.server.pages import pages
    from assay.gateway.server.run import bind, run_gateway
    from assay.gateway.server.setup import open_gateway

    given = dict(setting.split("=") for setting in settings)
    limits = {name: float(given.pop(name)) for name in ("request_seconds",) if name in given}
    head_seconds = float(given.pop("head_seconds", 10))
    connections = int(given.pop("connections", 100))
    policy = serving.make_policy(limits=limits, **{name: float(value) for name, value in given.items()})
    source = Slow() if upstream == "slow" else upstream
    metrics = Metrics()
    gateway = open_gateway(policy, upstream=source, store=store, keys=keys, meter=metrics)
    if upstream == "slow":
        gateway.settler._estimator = SlowEstimator()
    listener = bind("127.0.0.1", 0)
    run_gateway(
        gateway,
        sockets=[listener],
        routers=pages(gateway, metrics, "operator-token-of-tests"),
        head_seconds=head_seconds,
        connections=connections,
        on_start=lambda: tell(listener.getsockname()[1]),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
