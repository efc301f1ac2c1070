"""The start-up budget: asking for help or a list loads nothing heavy; `benchmarks/startup.py` has the seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "numpy", "pydantic", "rich", "scipy", "sklearn", "pandas", "pyarrow", "lark"}
CONFIGURATION = Path(__file__).parents[2] / "configs" / "proof_of_concept.jsonc"
LIGHT = (["--help"], ["--version"], ["list"], ["list", "unlearners"], ["run", "--help"])


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_nothing_heavy_is_imported(arguments):
    code = (
        "import sys; sys.argv[1:] = " + repr(arguments) + "\n"
        "from erasure.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout
    assert set(done.stderr.split()) & HEAVY == set()


def test_a_tabular_run_imports_no_library_of_another_modality(tmp_path):
    code = (
        "import sys, erasure\n"
        "erasure.run({'data': {'data_source': {'class': 'Sklearn', 'parameters': {'name': 'iris'}}, 'partitions': ["
        "{'class': 'Percentage', 'parameters': {'parts_names': ['train', 'test'], 'percentage': 0.7}},"
        "{'class': 'Percentage', 'parameters': {'parts_names': ['forget', 'retain'], 'ref_data': 'train', 'percentage': 0.2}}]},"
        "'predictor': {'model': 'MLP', 'epochs': 1}, 'unlearners': ['SSD'], 'evaluator': {'measures': ['Accuracy']}},"
        f"store={str(tmp_path)!r})\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"torchvision", "transformers", "torch_geometric", "datasets", "timm", "ray"} == set()
    assert "torch" in done.stdout.split()


def test_checking_a_configuration_leaves_torch_to_whoever_uses_it(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom erasure.workflows.validation import validated\n"
        f"configuration = Path({str(CONFIGURATION)!r})\n"
        "validated(configuration)\nprint('torch' in sys.modules)\n"
        "validated(configuration, ['predictor.parameters.optimizer.class=Adagrad'])\n"
        "print('torch' in sys.modules, 'torch._meta_registrations' in sys.modules)\n"
        "import torch\nprint(torch._meta_registrations.meta_mm.__module__, 'torch._meta_registrations' in sys.modules)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["False", "True False", "torch._meta_registrations True"]
