"""How much a pod of the gateway has, and how many there are."""

from pydantic import Field, PositiveInt

from inhouse.common.settings import Settings


class GatewayPods(Settings):
    """The pods of `inhouse gateway serve --emit kubernetes`."""

    image: str = Field(default="", pattern=r"^\S*$", description="container with inhouse in it; Kubernetes needs one")
    volume: str = Field(
        default="", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$|^$",
        description="Kubernetes: the claim with the evidence and labels that the configuration names",
    )  # fmt: skip
    cpus: PositiveInt = Field(default=1, description="that a pod asks for; one process uses one")
    memory_gib: PositiveInt = Field(default=1, description="that a pod asks for, and may have")
    min_pods: PositiveInt = Field(default=2, description="with nothing to do")
    max_pods: PositiveInt = Field(default=8, description="however many calls there are")
    calls_per_pod: PositiveInt = Field(default=64, description="under way, a pod; more start more pods")
