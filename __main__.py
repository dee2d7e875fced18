"""The program: settings → platform → exports."""

import pulumi

from components import environment, tagging
from components.platform import Platform

stack = environment.load()
tagging.register(stack.name, stack.settings.tags)
platform = Platform("trainserve", stack)
for key, value in platform.outputs.items():
    pulumi.export(key, value)
