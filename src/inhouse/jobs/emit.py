"""`inhouse make --emit`: a recipe's job as a Slurm batch script or as Kubernetes manifests. Nothing is submitted.

Both start one torchrun a node, give it the time to save when the cluster wants the nodes back, and start it again.
"""

from inhouse.jobs.job import Job
from inhouse.jobs.kubernetes import kubernetes
from inhouse.jobs.slurm import slurm


def job_for(target: str, job: Job) -> str:
    """What `sbatch` (slurm) or `kubectl create -f` (kubernetes) takes.

    Raises `ValueError` for another target, where the target needs what the recipe does not say, or where the processes
    do not fill the nodes.
    """
    if job.processes % job.nodes:
        size = job.cluster.gpus_per_node
        raise ValueError(
            f"[parallel] asks for {job.processes} processes, which do not fill nodes of [cluster] gpus_per_node = "
            f"{size} alike; nearest: {job.processes - job.processes % size} processes"
        )
    targets = {"kubernetes": kubernetes, "slurm": slurm}
    if target not in targets:
        raise ValueError(f"--emit {target}: no such target; it is one of {', '.join(targets)}")
    return targets[target](job)
