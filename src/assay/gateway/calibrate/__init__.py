"""Calibration: from private data and trusted traffic to a policy.

Names load on first use, so that importing the package costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.gateway.calibrate.measure import Timing as Timing
    from assay.gateway.calibrate.profiles import honest_profiles as honest_profiles
    from assay.gateway.calibrate.profiles import suspect_pools as suspect_pools
    from assay.gateway.calibrate.record import CalibrationRecord as CalibrationRecord
    from assay.gateway.calibrate.run import Calibrated as Calibrated
    from assay.gateway.calibrate.run import calibrate as calibrate
    from assay.gateway.calibrate.run import make_method as make_method

_HOMES = {
    "Calibrated": "run",
    "CalibrationRecord": "record",
    "Timing": "measure",
    "calibrate": "run",
    "honest_profiles": "profiles",
    "make_method": "run",
    "suspect_pools": "profiles",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
