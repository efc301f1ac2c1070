"""Three people ask to be forgotten, one after another: ``make request-demo``.

Trains the networks of ``digits_training.py``, answers the requests, checks the certificates, and shows that a flipped bit is found. The
first two are answered by training the shard that had learned from the person again, which is exact by proof. The last is answered as
where nothing is known of the training: methods are tried, judged beside retrained models, and given up for retraining.
"""

import shutil
import sys
from pathlib import Path

import digits_training as own
import numpy as np

import erasure
from erasure.analysis.request_stream import stream_advice
from erasure.certificates.verifying import verify
from erasure.records.requests import Ledger

FOLDER = Path("runs/request-demo")
COMPARED = {"methods": ["SSD"], "n_originals": 3, "n_golds": 3}
REQUESTS = {
    "person3": ("the network that learned from the person is trained again, one of five", {}),
    "person11": ("the same", {}),
    "person29": (
        "a method is tried beside retrained models, many retrainings, as where nothing is known of the training",
        COMPARED,
    ),
}
"""Who asks, what is done, and what is tried where not the method that forgets by proof."""


def say(text: str) -> None:
    """One line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Answer, verify, damage; 0 if everything is as it should be."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    model = own.fit(np.arange(own.N_TRAIN), 2024)
    people = np.array(own.ids())
    answers = []
    for person, (way, tried) in REQUESTS.items():
        say(f"{person} asks to be forgotten: {way}")
        answer = erasure.forget(
            model=model,
            forget=people == person,
            who=[person],
            data=own.data(),
            test=own.test(),
            train=own.fit,
            folder=FOLDER,
            batch_size=32,
            **tried,
        )
        say(str(answer))
        answers.append(answer)
        model = answer.model
    ledger = Ledger(FOLDER / "ledger.jsonl")
    say(f"ledger {ledger.path}: {len(ledger)} requests, head {ledger.head[:16]}")
    for sentence in stream_advice(ledger.entries()):
        say(sentence)
    sound = all(passed(answer.folder) for answer in answers)
    say(f"certificates: {'all three verify' if sound else 'NOT all verify'}")
    say(f"page for the person who asked: {answers[-1].folder / 'answer.html'}")
    found = [flipped(answers[-1].folder, part) for part in ("model/model.safetensors", "certificate.json", "../ledger.jsonl")]
    return 0 if sound and all(found) else 1


def passed(folder: Path) -> bool:
    """Whether a certificate verifies against everything that is there."""
    checked = verify(
        folder / "certificate.json",
        key=FOLDER / "private" / "signing-key.pub",
        model=folder / "model" / "model.safetensors",
        evidence=folder / "evidence",
        ledger=FOLDER / "ledger.jsonl",
    )
    return checked.passed


def flipped(folder: Path, part: str) -> bool:
    """Flip one bit, say what finds it, and put it back."""
    file = (folder / part).resolve()
    content = file.read_bytes()
    damaged = bytearray(content)
    damaged[content.index(b'"payload"') + 60 if part == "certificate.json" else len(content) // 2] ^= 1
    file.write_bytes(damaged)
    try:
        checked = verify(
            folder / "certificate.json", model=folder / "model" / "model.safetensors", ledger=FOLDER / "ledger.jsonl"
        )
    finally:
        file.write_bytes(content)
    failed = [f"{check.name}: {check.sentence}" for check in checked.checks if not check.passed]
    say(f"one bit of {file.name} flipped: {failed[0] if failed else 'NOT FOUND'}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
