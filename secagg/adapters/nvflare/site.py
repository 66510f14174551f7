"""What the owner of a site decides: the file ``secagg.json`` in the site's own folder ``local``, and what it names.

Neither the server nor a job writes any of it.  A job brings code, and the site's owner admits that code or does not;
see ``docs/nvflare.md``.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from nvflare.apis.fl_context import FLContext

from secagg.adapters.membership import RefusedMessageError
from secagg.adapters.node import Node
from secagg.adapters.nvflare.announcement import Announcement, context_of
from secagg.adapters.nvflare.payload import log
from secagg.adapters.nvflare.store import SiteFile
from secagg.adapters.own_config import PATHS, OwnConfig
from secagg.adapters.participation import Participation, not_approved
from secagg.encoding import LayoutPolicy
from secagg.encoding.settings import matching
from secagg.errors import InputError, ParameterError
from secagg.pairwise.config import RoundConfig

OWN_FILE: Final = "secagg.json"
"""In the site's folder ``local``."""
WEIGHT: Final = "NUM_STEPS_CURRENT_ROUND"
"""What NVFlare weighs an update by: an entry of the FLModel's meta."""
_METRICS: Final = "metrics"
"""The setting with the names of the metrics that may be summed."""
_FOLDER: Final = "secagg"
_ROUND_FILE: Final = "secagg-round.db"
_TOKENS_FILE: Final = "tokens.db"
_SITE: Final = "{site}"
"""Stands for the site's name in a path, where several sites share one folder, as in the simulator."""
_LAYOUT_POLICY: Final = LayoutPolicy(weighted_by=frozenset({WEIGHT}))


@final
@dataclass(frozen=True, slots=True)
class Folders:
    """Where a site keeps its files.

    Attributes:
        name: of the site.
        local: the folder of its own config.
        job: that of the job that runs.
        root: the site's workspace.
    """

    name: str
    local: Path
    job: Path
    root: Path

    @classmethod
    def of(cls, fl_ctx: FLContext) -> Folders:
        """Those of the site and the job of a context."""
        workspace = fl_ctx.get_engine().get_workspace()
        return cls(
            str(fl_ctx.get_identity_name()),
            Path(workspace.get_site_config_dir()),
            Path(workspace.get_run_dir(fl_ctx.get_job_id())),
            Path(workspace.get_root_dir()),
        )


@final
class Site:
    """The site that a task has reached."""

    def __init__(self, folders: Folders, cleanup: ExitStack) -> None:
        """Read the site's files.  Raises OSError, ParameterError or SiteFileError for what cannot be used."""
        self.config = own_config(folders)
        self._metrics = self.config.names(_METRICS)
        folders.job.mkdir(parents=True, exist_ok=True)
        self.memory = SiteFile(folders.job / _ROUND_FILE)
        cleanup.callback(self.memory.close)
        self.node = Node(
            self.config,
            self.memory,
            cleanup,
            paths=_paths(self.config, folders),
            policy=None,
            layout_policy=_LAYOUT_POLICY,
        )

    def part(self, announcement: bytes) -> tuple[Announcement, Participation]:
        """What is announced, and the site's part in it.  Raises RefusedMessageError for what does not decode."""
        try:
            announced = Announcement.from_bytes(announcement)
        except ParameterError as wrong:
            raise RefusedMessageError(str(wrong)) from None

        def approve(config: RoundConfig) -> bool:
            return self._approve(announcement, announced, config)

        return announced, Participation(
            self.node,
            self.memory,
            announcement,
            input_digest=announced.input_digest,
            privacy=None,
            approve=approve,
            log=log,
        )

    def _approve(self, announcement: bytes, announced: Announcement, config: RoundConfig) -> bool:
        """What this site asks of what was announced.  Raises PeerError."""
        terms, policy = announced.terms, self.node.layout_policy
        if context_of(announcement) != config.context:
            raise not_approved("the announced model and layout are not those of this round's context")
        try:
            layout = announced.layout
            layout.check_policy(policy, weighted_by=terms.weighted_by, difference=terms.difference)
            layout.check_round(config)
        except (ParameterError, InputError) as wrong:
            raise not_approved(f"the announced layout does not fit the round: {wrong}") from None
        self._check_metrics(terms.metrics)
        return True

    def _check_metrics(self, asked: Collection[str]) -> None:
        """Raises PeerError for a metric that the site's owner does not let be summed, which is named."""
        if self._metrics is None:
            return
        allowed = {name for pattern in self._metrics for name in matching(pattern, asked)}
        if others := sorted(set(asked) - allowed):
            raise not_approved(
                f"the job sums the metric {others[0]!r}; {self.config.key(_METRICS)} in {self.config.where} allows "
                f"{', '.join(sorted(self._metrics)) or 'none'}: leave the metric out of the job's metrics, or have the "
                "site's owner add its name"
            )

    @property
    def may_evaluate(self) -> bool:
        """Whether tasks without secure aggregation may leave metrics in clear.  Raises ParameterError."""
        allowed = self.config.flag("evaluate")
        if allowed is None:
            return self.node.identity is None and not self.node.layout_policy.asks_for_noise
        return allowed


def own_config(folders: Folders) -> OwnConfig:
    """What the site's owner has written; nothing without a file.  Raises ParameterError and OSError."""
    path = folders.local / OWN_FILE
    values: object = {}
    if path.exists():
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as wrong:
            raise ParameterError(f"{path}: not JSON ({wrong})") from None
    if not isinstance(values, dict):
        raise ParameterError(f'{path}: a JSON object of settings, such as {{"max_clip": 1.0}}')
    config = OwnConfig(values=values, where=f"local/{OWN_FILE}")
    config.check_known(more=[_METRICS])
    return config


def _paths(config: OwnConfig, folders: Folders) -> dict[str, Path]:
    """The files that the config names, from its own folder on; the tokens of a site with an identity have a place."""
    paths: dict[str, Path] = {}
    for name in PATHS:
        if (given := config.path(name)) is not None:
            paths[name] = folders.local / given.replace(_SITE, folders.name)
    if "identity" in paths and "tokens" not in paths:
        folder = folders.root / _FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        paths["tokens"] = folder / _TOKENS_FILE
    return paths
