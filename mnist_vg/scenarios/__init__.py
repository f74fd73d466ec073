"""Scenarios: all that decides a run, checked before anything starts, and named suites of them.

```python
from mnist_vg.scenarios import SUITES, Scenario

scenario = Scenario(activation="tanh", num_layers=12, iterations=500)
print(scenario.settings())
print([named.name for named in SUITES["tutorial"]])  # sigmoid, relu, leaky_relu
```
"""

from mnist_vg.scenarios.initializers import parse_initializer
from mnist_vg.scenarios.scenario import Scenario
from mnist_vg.scenarios.suites import SCENARIOS, SUITES, find_scenario, find_scenarios

__all__ = [
    "SCENARIOS",
    "SUITES",
    "Scenario",
    "find_scenario",
    "find_scenarios",
    "parse_initializer",
]
