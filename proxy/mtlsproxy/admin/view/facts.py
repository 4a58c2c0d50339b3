"""All that one rendering is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mtlsproxy.admin.history import Course

Tree = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """As the status source gives them. now: aware UTC. url: of the admin, as who asked for the page calls it.

    more_clients: whether there are others besides `clients`.
    """

    now: datetime
    url: str
    ready: bool
    reasons: Sequence[str]
    status: Tree
    rejections: Sequence[Tree]
    clients: Sequence[Tree]
    more_clients: bool
    traffic: Tree
    course: Course

    @property
    def configuration(self) -> Tree:
        found: Tree = self.status.get("configuration", {})
        return found
