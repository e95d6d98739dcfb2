"""The model: single-device modules that know no distributed code and no files."""

from inhouse.model.attention import Attend, CausalAttend
from inhouse.model.config import ModelConfig, ParameterCount
from inhouse.model.moe import Routing
from inhouse.model.transformer import Transformer

__all__ = ["Attend", "CausalAttend", "ModelConfig", "ParameterCount", "Routing", "Transformer"]
