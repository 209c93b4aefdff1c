"""Detectors: what the stream of an account's queries says about what it is for.

A detector raises alarms; what an alarm does to the account is the policy's decision. They
add nothing to what `assay.gateway.pricing` asks for and take nothing away from it.
"""

from assay.gateway.detectors.base import Detector, Look, Seen
from assay.gateway.detectors.coverage import Coverage
from assay.gateway.detectors.prada import Prada
from assay.gateway.detectors.watch import DETECTORS, Alarm, Watch

__all__ = ["DETECTORS", "Alarm", "Coverage", "Detector", "Look", "Prada", "Seen", "Watch"]
