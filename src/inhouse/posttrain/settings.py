"""Settings of supervised fine-tuning."""

from pathlib import Path

from pydantic import Field, NonNegativeInt

from inhouse.common.settings import Settings


class GeneratedSettings(Settings):
    """How many conversations of each kind are made by code; 0 leaves a kind out."""

    addition: NonNegativeInt = Field(default=3_000, description="sums of two numbers up to 99, worked in columns")
    subtraction: NonNegativeInt = Field(default=3_000, description="differences of two numbers up to 99")
    brackets: NonNegativeInt = Field(default=1_500, description="whether brackets match")
    strings: NonNegativeInt = Field(default=3_000, description="reverse, count, sort letters, …")
    library: NonNegativeInt = Field(default=2_000, description="at most so many about Python modules in the corpus")
