"""What a recipe says about the cluster that it runs on."""

from pydantic import Field, PositiveFloat, PositiveInt

from inhouse.common.settings import Settings

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$|^$"


class ClusterSettings(Settings):
    """The `[cluster]` table: where a job runs. What a run computes does not depend on it."""

    gpus_per_node: PositiveInt = Field(default=8, description="one process each; [parallel] gives how many there are")
    queue: str = Field(default="", pattern=_NAME, max_length=63, description="Slurm partition, or Kueue LocalQueue")
    account: str = Field(default="", pattern=_NAME, description="Slurm account")
    image: str = Field(default="", pattern=r"^\S*$", description="container with inhouse in it; Kubernetes needs one")
    volume: str = Field(default="", pattern=_NAME, description="Kubernetes: the claim that holds text and runs")
    time_limit_hours: PositiveFloat = 24.0
    grace_seconds: int = Field(default=120, ge=1, le=3600, description="to save, between SIGTERM and the kill")
