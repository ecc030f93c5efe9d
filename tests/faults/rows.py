"""All cases, by row."""

from . import breaking, connecting, judging, surviving
from .case import CASES

__all__ = ["CASES"]

_MODULES = (connecting, judging, breaking, surviving)
CASES.sort(key=lambda case: case.row)
