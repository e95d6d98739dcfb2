"""Generation: rollouts, evaluation and serving use this one engine."""

from inhouse.engine.engine import Engine, EngineSettings
from inhouse.engine.request import Completion, FinishReason, SamplingParams, StepOutput, TokenLogprobs

__all__ = ["Completion", "Engine", "EngineSettings", "FinishReason", "SamplingParams", "StepOutput", "TokenLogprobs"]
