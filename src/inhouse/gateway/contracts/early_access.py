"""Which groups may use a model before everybody may."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from inhouse.gateway.types import Caller, Target


class EarlyAccess(NamedTuple):
    """`groups` has the models, by provider and name, that only callers of these groups may use; all others are free."""

    groups: Mapping[tuple[str, str], frozenset[str]]

    def why_not(self, target: Target, caller: Caller) -> str | None:
        """Why this caller may not use a target, in words; None where it may. Administrators are in no group by that."""
        groups = self.groups.get((target.provider, target.model))
        if groups is None or not groups.isdisjoint(caller.groups):
            return None
        return f"{target.model} is in early access, for {', '.join(sorted(groups))}"

    def visible(self, targets: Iterable[Target], caller: Caller) -> list[Target]:
        """What a list of models shows this caller: a name that it may not use is not told."""
        return [target for target in targets if self.why_not(target, caller) is None]
