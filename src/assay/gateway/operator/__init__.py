"""The operator's pages: accounts, prices, alarms, queries over time, policy."""

from assay.gateway.operator.router import operator_router

__all__ = ["operator_router"]
