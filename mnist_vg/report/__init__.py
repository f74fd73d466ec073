"""What a person reads on the screen: progress, tables, and what to type next.

```python
from mnist_vg import diagnose
from mnist_vg.report import comparison_table, diagnosis_table, make_console
from mnist_vg.runs import find_runs

make_console().print(comparison_table(find_runs("logdir")))
make_console().print(diagnosis_table(diagnose("logdir")))
```
"""

import lazy_loader

# Imported on first use: a list of scenarios needs no run, and a run no sweep.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checks": ["checks_lines", "checks_table"],
        "commands": ["apart_lines", "board_line", "command"],
        "console": ["make_console", "told"],
        "diagnoses": [
            "comparison_lines",
            "comparison_parts",
            "diagnosis_json",
            "diagnosis_table",
            "foreign_lines",
            "mark_lines",
            "not_recorded_lines",
            "one_of",
            "remark_lines",
        ],
        "display": ["Display"],
        "results": ["comparison_table", "cure_lines", "cure_table"],
        "scenarios": ["scenario_table"],
        "sweep_display": ["SweepDisplay"],
        "sweeps": ["plan_lines", "ranking_table", "settings_table", "sweep_json", "verdict_table"],
    },
)
