"""The engine without its slow luggage: nothing that is needed is lost, and nothing stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SLOW = ("cpuinfo", "neural_compressor.metric.bleu", "pandas", "scipy", "sklearn")

PROGRAM = """
import json, sys
from quantize.engine.compatibility import contained
with contained(workspace=None, seed=1, verbose=False):
    slow = [name for name in {slow!r} if name in sys.modules]
    from neural_compressor.metric.metric import accuracy_score
    from neural_compressor.strategy.bayesian import GaussianProcessRegressor, Matern, minimize
    regressor = GaussianProcessRegressor(kernel=Matern(nu=2.5)).fit([[0.0], [1.0]], [0.0, 1.0])
    found = dict(
        slow=slow,
        accuracy=float(accuracy_score([1, 2, 3, 4], [1, 2, 0, 0])),
        predicted=float(regressor.predict([[1.0]])[0]),
        minimum=float(minimize(lambda x: (x[0] - 3) ** 2, [0.0]).x[0]),
    )
import cpuinfo, pandas, sklearn
found["real"] = [hasattr(cpuinfo, "CPUID"), hasattr(pandas, "DataFrame"), hasattr(sklearn, "__version__")]
print(json.dumps(found))
"""


def run(program: str, root: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_slow_modules_are_imported_when_they_are_called(project_root: Path) -> None:
    found = run(PROGRAM.format(slow=SLOW), project_root)
    assert found["slow"] == []
    assert found["accuracy"] == 0.5
    assert abs(found["predicted"] - 1.0) < 1e-6  # the regressor goes through its points
    assert abs(found["minimum"] - 3.0) < 1e-4
    assert found["real"] == [True, True, True]


def test_what_is_there_already_is_left_alone(project_root: Path) -> None:
    program = """
import json, sys
import scipy.optimize, sklearn.gaussian_process
before = sklearn.gaussian_process.GaussianProcessRegressor
from quantize.engine.compatibility import contained
with contained(workspace=None, seed=1, verbose=False):
    from neural_compressor.strategy import bayesian
print(json.dumps({"same": bayesian.GaussianProcessRegressor is before,
                  "scipy": sys.modules["scipy.optimize"] is scipy.optimize}))
"""
    assert run(program, project_root) == {"same": True, "scipy": True}
