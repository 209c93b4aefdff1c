"""Simulated honest users and attackers: who pays what under a policy."""

from assay.gateway.simulation.alarms import ThresholdFit, alarm_interval, drift, fit_threshold
from assay.gateway.simulation.attacks import AttackCost, Plan, attack_cost, attack_costs
from assay.gateway.simulation.bound import likelihood_bound
from assay.gateway.simulation.fit import detection_queries, fit_accounts, fit_unit, lower_ratios
from assay.gateway.simulation.honest import Overhead, fit_hashes_per_unit, honest_overhead, overheads
from assay.gateway.simulation.play import Played, play
from assay.gateway.simulation.replay import LogRow, constant_rows, replay
from assay.gateway.simulation.streams import Profile, cheapest, standard_profiles, tilted
from assay.gateway.simulation.volume import VolumeCost, volume_costs

__all__ = [
    "AttackCost",
    "LogRow",
    "Overhead",
    "Plan",
    "Played",
    "Profile",
    "ThresholdFit",
    "VolumeCost",
    "alarm_interval",
    "attack_cost",
    "attack_costs",
    "cheapest",
    "constant_rows",
    "detection_queries",
    "drift",
    "fit_accounts",
    "fit_hashes_per_unit",
    "fit_threshold",
    "fit_unit",
    "honest_overhead",
    "likelihood_bound",
    "lower_ratios",
    "overheads",
    "play",
    "replay",
    "standard_profiles",
    "tilted",
    "volume_costs",
]
