"""A question, its trials, and the workers that answer it."""

from lightning_sep.rooms import make_callable

make_callable(__name__)
