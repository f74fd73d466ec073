"""From a run's records to a verdict: which layer is sick, of what, and by which number.

```python
from mnist_vg.diagnosis import diagnose_runs

for name, diagnosis in diagnose_runs("logdir").items():
    print(name, diagnosis.verdict)
    print([evidence.line for evidence in diagnosis.evidence])
```
"""

from mnist_vg.diagnosis.diagnosis import Diagnosis, diagnose, diagnose_runs, root_causes
from mnist_vg.diagnosis.monitor import Monitor
from mnist_vg.diagnosis.symptoms import SYMPTOMS, Evidence, Symptom

__all__ = [
    "SYMPTOMS",
    "Diagnosis",
    "Evidence",
    "Monitor",
    "Symptom",
    "diagnose",
    "diagnose_runs",
    "root_causes",
]
