"""The statements about AXCL, tried: ``STATEMENTS`` by their number."""

from support.statements import contexts, devices, engines, streams
from support.statements.registry import STATEMENTS, Statement

__all__ = ["STATEMENTS", "Statement", "contexts", "devices", "engines", "streams"]
