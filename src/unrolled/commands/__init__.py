"""The commands, thin: each reads its arguments, calls one part of the library and prints what came."""

from unrolled.commands import models, service, training
from unrolled.commands.frame import app, with_readable_help

__all__ = ["app", "models", "service", "training"]  # a module's commands are in the app once it is imported

with_readable_help(app)
