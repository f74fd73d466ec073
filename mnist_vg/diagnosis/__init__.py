"""From a run's records to a verdict: which layer is sick, of what, and by which number.

```python
from mnist_vg.diagnosis import diagnose

for name, diagnosis in diagnose("logdir").items():
    print(name, diagnosis.verdict)
    print([evidence.line for evidence in diagnosis.evidence])
```
"""

from mnist_vg.diagnosis.diagnosis import Diagnoses, Diagnosis, diagnose, root_causes
from mnist_vg.diagnosis.monitor import Monitor
from mnist_vg.diagnosis.symptom import Evidence, Symptom
from mnist_vg.diagnosis.symptoms import SYMPTOMS

__all__ = [
    "SYMPTOMS",
    "Diagnoses",
    "Diagnosis",
    "Evidence",
    "Monitor",
    "Symptom",
    "diagnose",
    "root_causes",
]
