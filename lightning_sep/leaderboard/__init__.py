"""Records into ranked tables and a page."""

from lightning_sep.rooms import make_callable

make_callable(__name__)
