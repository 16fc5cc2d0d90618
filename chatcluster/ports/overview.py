"""What administrators see of the whole cluster, in one value."""

from __future__ import annotations

from dataclasses import dataclass

from chatcluster.ports.administration import Administration
from chatcluster.ports.series import Series


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Lists and logs, and how much it did."""

    administration: Administration
    series: Series
