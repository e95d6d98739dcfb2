"""The objectives by name."""

from inhouse.rl.objective.adaptive import ADAPTIVE
from inhouse.rl.objective.cispo import CISPO
from inhouse.rl.objective.dapo import DAPO
from inhouse.rl.objective.dppo import DPPO
from inhouse.rl.objective.gspo import GSPO
from inhouse.rl.objective.settings import ObjectiveName
from inhouse.rl.objective.terms import Objective

OBJECTIVES: dict[ObjectiveName, Objective] = {
    "adaptive": ADAPTIVE,
    "dapo": DAPO,
    "cispo": CISPO,
    "gspo": GSPO,
    "dppo": DPPO,
}
