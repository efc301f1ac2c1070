"""Answers a request in a child process, kills it at a random moment, and looks at what is left; again and again.

Arguments: a folder, the number of kills, a seed. Prints one line of JSON.
"""

import functools
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "workflows"))

import numpy as np
import torch
from own_models import N, problem, trainer

import erasure
from erasure.certificates.verifying import verify
from erasure.records.requests import Ledger


def answer(root, model, data, test, fit):
    erasure.forget(
        model=model,
        forget=range(10),
        data=data,
        test=test,
        train=fit,
        methods=["Finetuning"],
        folder=root / "requests",
        store=root / "store",
        n_originals=3,
        n_golds=1,
        batch_size=16,
        check_data=False,
    )


def broken(folder):
    """Sentences on what must never be: a certificate without its model or entry, two entries for one request, a broken ledger."""
    ledger = Ledger(folder / "ledger.jsonl")
    asked = [(entry.request, entry.original) for entry in ledger.entries()]
    found = ["two entries for one request"] if len(set(asked)) < len(asked) else []
    for certificate in folder.rglob("certificate.json"):
        model, evidence = certificate.parent / "model" / "model.safetensors", certificate.parent / "evidence"
        if not model.exists() or not (evidence / "rows.parquet").exists():
            found.append("a certificate without its model or evidence")
        else:
            checked = verify(certificate, model=model, evidence=evidence, ledger=ledger.path)
            found += [check.sentence for check in checked.checks if not check.passed]
    return found


def main(root, n_kills, seed):
    torch.set_num_threads(1)
    data, test = problem()
    fit = trainer(data, steps=20)
    model = fit(np.arange(N), 1)
    draw = random.Random(seed)

    @functools.cache
    def whole_s():
        """How long an answer takes that nobody kills."""
        start = time.monotonic()
        os.waitpid(_started(root.with_name("alone"), model, data, test, fit), 0)
        return time.monotonic() - start

    problems, kills, finished = [], 0, 0
    while kills < n_kills:
        anywhere = draw.random() < 0.5
        patience = whole_s() if anywhere else 0.0
        pid = _started(root, model, data, test, fit)
        if anywhere:
            _wait(pid, draw.uniform(0, patience))
        else:  # the moments in which an answer becomes visible are short: wait for them
            while not (any((root / "requests").glob(".making-*/answer.html")) or _is_done(pid)):
                time.sleep(0.001)
            _wait(pid, draw.uniform(0, 0.06))
        done = _is_done(pid)
        if not done:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            kills += 1
        problems += broken(root / "requests")
        if done:
            finished += 1
            if not list((root / "requests").rglob("certificate.json")):
                problems.append("an answer that ended without its certificate")
            shutil.rmtree(root / "requests")
            if draw.random() < 0.3:
                shutil.rmtree(root / "store")
    _, status = os.waitpid(_started(root, model, data, test, fit), 0)
    problems += ["the answer failed after the last kill"] if status else []
    problems += broken(root / "requests")
    n = len(Ledger(root / "requests" / "ledger.jsonl"))
    certificates = len(list((root / "requests").rglob("certificate.json")))
    sys.stdout.write(
        json.dumps({"kills": kills, "finished": finished, "problems": problems, "entries": n, "certificates": certificates})
    )


def _started(*arguments):
    """A child that answers the request. This process never does so itself: a fork does not take the threads of libraries along."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        answer(*arguments)
        code = 0
    finally:
        os._exit(code)


_STATUS = {}


def _is_done(pid):
    if pid not in _STATUS:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _STATUS[pid] = status
    return pid in _STATUS


def _wait(pid, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not _is_done(pid):
        time.sleep(0.001)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
