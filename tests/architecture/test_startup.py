"""The start-up budget: asking for help or a list loads nothing heavy; `benchmarks/startup.py` has the seconds."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "pydantic", "rich", "scipy", "sklearn", "pandas", "pyarrow", "lark"}
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
