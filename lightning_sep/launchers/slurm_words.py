"""What Slurm's short words mean: why jobs wait, and what it refuses."""

import re

FULL = "sleeping and retrying"  # what `sbatch` says where Slurm has as many jobs as it takes

_TOO_OFTEN = (
    "held: it was requeued too often; the other tasks go on, `scontrol release JOB` lets it go"
)
_BY_USER = "held by its user: `scontrol release JOB` lets it go"
# What Slurm calls the reasons that people ask about. Some it puts into words itself, for a while
# or, from 23.02 on, for good.
_REASONS = {
    "Priority": "jobs of higher priority are first",
    "Resources": "no node has room",
    "Dependency": "it comes after another job",
    "JobArrayTaskLimit": "as many as are wanted at once are there",
    "BeginTime": "Slurm lets a requeued job wait a while",
    "JobHeldUser": _BY_USER,
    "job requeued in held state": f"JobHeldUser: {_BY_USER}",
    "job requeued in special exit state": f"JobHeldUser: {_BY_USER}",
    "JobHeldAdmin": "held by an administrator",
    "JobHoldMaxRequeue": _TOO_OFTEN,
    "launch failure limit exceeded requeued held": f"JobHoldMaxRequeue: {_TOO_OFTEN}",
    "launch failed requeued held": "held: it could not be started; see the node's log",
    "ReqNodeNotAvail": (
        "the nodes that it could use are down or reserved; what ends before a reservation begins "
        "may run: lower launcher.time_min"
    ),
    "PartitionDown": "the partition is down",
    "PartitionTimeLimit": "it asks for more time than the partition gives: lower launcher.time_min",
    "PartitionConfig": "the partition has no such node: fewer launcher.cpus, memory_gb or gpus",
    "MaxMemPerLimit": "it asks for more memory than the partition gives: lower launcher.memory_gb",
    "InvalidQOS": "its QOS is not yours any more: stop, and sweep with another launcher.qos",
    "InvalidAccount": "its account is not yours any more: stop, and sweep with another one",
    "None": "Slurm has not looked at it yet",
}
# Limits of an account or a QOS, as Slurm calls them, and what they bound.
_LIMIT = re.compile(r"\b(?:(?:QOS|Assoc)(?:Grp|Max|Min)|Max(?=\w+PerAccount))\w+")
_BOUNDED = {
    "wall": ("time", "launcher.time_min"),
    "cpu": ("cores", "launcher.cpus"),
    "gres": ("GPUs", "launcher.gpus"),
    "mem": ("memory", "launcher.memory_gb"),
    "node": ("nodes", "trainer.nodes"),
    "jobs": ("jobs", ""),
    "": ("resources", "what it asks for"),
}
# How Slurm refuses an array of more tasks than MaxArraySize, than a user may have (each counts), or
# than it takes of all users together.
_TOO_MANY = ("Invalid job array specification", "job submit limit", FULL)


def in_words(reason: str) -> str:
    """Why tasks wait; Slurm strings together the reasons of those that wait together."""
    parts = reason.split(",")
    known = {one: words for one in parts if (words := _REASONS.get(one) or _of_limit(one))}
    if len(known) > 1:
        return "; ".join(f"{one}: {words}" for one, words in known.items())
    return f"{reason}: {known.popitem()[1]}" if known else reason


def _of_limit(name: str) -> str | None:
    """What a limit means, told from the parts of its name; ``None`` for what is none."""
    if not _LIMIT.fullmatch(name):
        return None
    whose = "the account" if name.startswith("Assoc") else "the QOS"
    what, setting = next(said for part, said in _BOUNDED.items() if part in name.lower())
    if "Submit" in name:
        return f"{whose} takes no more jobs for now"
    if "Min" in name.replace("Minutes", ""):
        return f"a task asks for less than {whose} wants of {what}: raise {setting}"
    if re.search("Per(Job|Node)", name):
        if "Minutes" in name:
            setting = "launcher.time_min"
        return f"a task asks for more than {whose} gives of {what}: lower {setting}"
    if "RunMinutes" in name:
        return (
            f"what runs may use all that {whose} gives at a time: it goes on when other jobs end; "
            "a lower launcher.time_min needs less"
        )
    if "Minutes" in name or "Wall" in name:
        return (
            f"the budget of {whose} is used up, or less is left than a task may use: it goes on "
            "when there is more; a lower launcher.time_min needs less"
        )
    ends = f"what {whose} gives of {what} at once is taken: it goes on when other jobs end"
    return ends if what == "jobs" else f"{ends}, or, if a task asks for more, with less {setting}"


def too_many(refusal: str) -> bool:
    """Whether Slurm might take fewer tasks; of several limits it names the one that is passed."""
    named = all("Submit" in one for one in _LIMIT.findall(refusal))
    return named and any(one in refusal for one in _TOO_MANY)
