"""Settings: Hydra's command-line overrides over ``conf/``, checked before anything runs.

An entry ``conf/<group>/<name>.yaml`` names a class (``_target_``) and every argument of it; the
folder is the list of what there is (:mod:`.conf`), so a new part arrives as one class and one file.
Hydra composes and nothing else (:mod:`.compose`): it checks neither types nor values, so both are
checked here (:mod:`.check`), against the signatures (:mod:`.signature`), and all problems are told
at once. What is whole is built (:mod:`.build`).
"""

from lightning_sep.settings.build import PLUGINS, build, locate
from lightning_sep.settings.check import FILLED_IN
from lightning_sep.settings.compose import Settings, compose, from_tree, peek
from lightning_sep.settings.conf import ROOT, conf_folders, contents, entries, groups

__all__ = [
    "FILLED_IN",
    "PLUGINS",
    "ROOT",
    "Settings",
    "build",
    "compose",
    "conf_folders",
    "contents",
    "entries",
    "from_tree",
    "groups",
    "locate",
    "peek",
]
