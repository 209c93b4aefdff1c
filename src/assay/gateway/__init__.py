"""The gateway that makes theft of a served model expensive."""

from assay.gateway.account import AccountState
from assay.gateway.policy import Policy, check_step, load_policy, save_policy, sign

__all__ = ["AccountState", "Policy", "check_step", "load_policy", "save_policy", "sign"]
