"""docs/monitoring.md names every metric as it is."""

import re
from pathlib import Path

from agent.core.exposition import METRICS

PAGE = (Path(__file__).parents[1] / "docs" / "monitoring.md").read_text()


def test_the_table_has_every_metric_with_its_type_and_words_and_no_other():
    rows = [line for line in PAGE.splitlines() if line.startswith("| `ems_")]
    assert rows == [f"| `{metric.name}` | {metric.kind} | {metric.text} |" for metric in METRICS]


def test_the_alerts_use_metrics_that_there_are():
    used = set(re.findall(r"\bems_[a-z_]+", PAGE.split("```yaml")[1].split("```")[0]))
    assert used
    assert used <= {metric.name for metric in METRICS}
