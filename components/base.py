"""What every component shares: its type, its children's options and its outputs."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pulumi


class PlatformComponent(pulumi.ComponentResource):
    """A component whose children are parented to it and whose outputs are registered once, last."""

    TYPE: ClassVar[str]

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, None, opts)

    def child(  # noqa: PLR0913  # the options that children differ in
        self,
        *,
        depends_on: Sequence[pulumi.Input[pulumi.Resource]] | None = None,
        protect: bool | None = None,
        retain_on_delete: bool | None = None,
        ignore_changes: list[str] | None = None,
        deleted_with: pulumi.Resource | None = None,
        delete_before_replace: bool | None = None,
        custom_timeouts: pulumi.CustomTimeouts | None = None,
    ) -> pulumi.ResourceOptions:
        """Options of one child: parented here, and only what that child itself needs."""
        return pulumi.ResourceOptions(
            parent=self,
            depends_on=depends_on,
            protect=protect,
            retain_on_delete=retain_on_delete,
            ignore_changes=ignore_changes,
            deleted_with=deleted_with,
            delete_before_replace=delete_before_replace,
            custom_timeouts=custom_timeouts,
        )

    def invoke(self) -> pulumi.InvokeOptions:
        """Options of a look-up made on behalf of this component."""
        return pulumi.InvokeOptions(parent=self)

    def finish(self, *outputs: str) -> None:
        """Registers the named attributes as this component's outputs: the last statement of a constructor."""
        values: Mapping[str, Any] = {name: getattr(self, name) for name in outputs}
        self.register_outputs(values)
