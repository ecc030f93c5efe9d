"""All cases, by row."""

from . import connecting, judging
from .case import CASES

__all__ = ["CASES"]

_MODULES = (connecting, judging)
CASES.sort(key=lambda case: case.row)
