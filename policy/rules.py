"""Every rule, in one list."""

from typing import Final

from policy import encryption, exposure, hygiene, identity, protection, workloads
from policy.model import Rule

RULES: Final[tuple[Rule, ...]] = (
    *encryption.RULES,
    *exposure.RULES,
    *identity.RULES,
    *hygiene.RULES,
    *workloads.RULES,
    *protection.RULES,
)
