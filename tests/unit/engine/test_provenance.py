"""A record says what its bytes depend on."""

import json
import os
import subprocess
import sys

import torch
from small import small_experiment

import erasure
from erasure.engine.recording import provenance
from erasure.stages.numerics import Numerics


def test_the_record_of_a_run_names_the_kernels(tmp_path, monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    erasure.run(small_experiment(unlearners=["Identity"]), store=tmp_path / "store", output=tmp_path / "out")
    found = json.loads((tmp_path / "out" / "report.json").read_text())
    assert found["versions"]["torch"] == torch.__version__
    assert found["machine"]["threads"] == 1
    assert found["machine"]["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert found["machine"]["MKL_CBWR"] == "COMPATIBLE"
    assert "ONEDNN_MAX_CPU_ISA" not in found["machine"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"instructions {found['machine']['instructions']}" in page


def test_a_limit_of_the_instruction_set_is_recorded():
    code = (
        "import torch; from erasure.engine.recording.provenance import machine; from erasure.stages.numerics import Numerics; "
        "print(machine(Numerics(threads=2), torch.device('cpu')))"
    )
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert "'instructions': 'DEFAULT'" in said
    assert "'ATEN_CPU_CAPABILITY': 'default'" in said
    assert "'threads': 2" in said


def test_a_processor_without_a_description_is_no_failure(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "_CPU_FACTS", tmp_path / "none")
    assert provenance.machine(Numerics(), torch.device("cpu"))["device"] == "cpu"
