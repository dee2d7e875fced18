"""Everything outside a function, behind one object that a test can replace piece by piece."""

import time
from functools import cache, cached_property

from common.aws import Client, client
from common.documents import Documents
from common.settings import Environment
from common.state import StateTable


class Services:
    """Adapters of one process, each made when first used."""

    @cached_property
    def environment(self) -> Environment:
        """The function's environment variables."""
        return Environment.read()

    @cached_property
    def state(self) -> StateTable:
        """The state table."""
        return StateTable(client("dynamodb"), self.environment.state_table)

    @cached_property
    def documents(self) -> Documents:
        """Configuration and manifests."""
        return Documents(self.s3, self.environment)

    @property
    def s3(self) -> Client:
        """Object storage."""
        return client("s3")

    @property
    def sagemaker(self) -> Client:
        """Training jobs and model packages."""
        return client("sagemaker")

    @property
    def sqs(self) -> Client:
        """The queue of training requests."""
        return client("sqs")

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()


@cache
def services() -> Services:
    """Return this process's adapters."""
    return Services()
