"""Both kinds of models."""

import pytest


@pytest.fixture(params=["qwen3", "glm4_moe"])
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param
