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


class PodSettings(Settings):
    """The pods of `inhouse serve --emit kubernetes`."""

    image: str = Field(default="", pattern=r"^\S*$", description="container with inhouse in it; Kubernetes needs one")
    volume: str = Field(default="", pattern=_NAME, description="Kubernetes: the claim in which MODEL lies")
    cpus: PositiveInt = Field(default=4, description="that a pod asks for")
    memory_gib: PositiveInt = Field(default=16, description="that a pod asks for, and may have")
    min_pods: PositiveInt = Field(default=1, description="with nothing to do")
    max_pods: PositiveInt = Field(default=4, description="however long the queue is")
    queue_per_pod: PositiveInt = Field(default=8, description="sequences that wait, a pod; more start more pods")
    start_minutes: PositiveInt = Field(default=15, description="for a pod to load the model before it is given up")
