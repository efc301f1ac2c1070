"""Starts ``python -m MODULE`` again and again as forks of one process that has imported the libraries: a real process, seconds sooner."""

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import sys
import threading
import traceback

import torch

# Whatever a run imports on its way; what is missing is imported, or missed, by the command itself.
_LIBRARIES = (
    "erasure.certificates.verifying",
    "erasure.cli.report_command",
    "erasure.cli.request_command",
    "erasure.cli.run_command",
    "erasure.cli.sweep_command",
    "erasure.workflows.run",
    "erasure.planning.plan",
    "erasure.cli.progress",
    "erasure.data.selection",
    "erasure.data.sources",
    "erasure.data.splitters",
    "erasure.measures.attacks.umia",
    "erasure.measures.average_gap",
    "erasure.measures.run_time",
    "erasure.measures.sklearn_metric",
    "erasure.models.mlp",
    "erasure.training.per_sample",
    "erasure.data.sources.scikit_learn",
    "erasure.unlearners.finetuning",
    "erasure.unlearners.gold_model",
    "erasure.unlearners.identity",
    "erasure.unlearners.scrub",
    "erasure.unlearners.selective_synaptic_dampening",
    "erasure.workflows.deletion_request",
    "erasure.workflows.finished_runs",
    "erasure.workflows.validation",
    "filelock",
    "lark",
    "regex",
    "safetensors.torch",
    "pyarrow.parquet",
    "sklearn.datasets",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "scipy.stats",
    "pandas",
    "jinja2",
    "rich.progress",
)


def _become(request):
    """Be what a shell would have started; gives the exit code."""
    for number, (path, flags) in enumerate(
        [(os.devnull, os.O_RDONLY), *((name, os.O_WRONLY) for name in (request["out"], request["err"]))]
    ):
        opened = os.open(path, flags)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.path[:1] = [request["cwd"], *request["path"]]
    sys.argv = [request["module"], *request["arguments"]]
    random.seed()
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(code):
    """End as an interpreter does, but leave its memory, which is the server's, as it is."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main():
    torch.set_num_threads(1)
    for name in _LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    gc.freeze()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _end(_become(request))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
