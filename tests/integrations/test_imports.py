"""Who uses no framework pays for none: they are loaded by their adapters alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAMEWORKS = {"accelerate", "lightning", "lightning_fabric", "pytorch_lightning", "torch", "torchdata", "transformers"}

PROBE = "import sys, importlib; importlib.import_module(sys.argv[1]); print('\\n'.join(sys.modules))"


@pytest.mark.parametrize("module", ["castore", "castore.store", "castore.cli.main", "castore.integrations"])
def test_importing_castore_loads_no_framework(module: str) -> None:
    run = subprocess.run([sys.executable, "-c", PROBE, module], check=True, capture_output=True, text=True)
    assert set(run.stdout.split()) & FRAMEWORKS == set()
