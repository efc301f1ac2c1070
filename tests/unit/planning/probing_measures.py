"""A measure that asks for every kind of model and writes down what it gets."""

from collections.abc import Sequence
from dataclasses import dataclass

from erasure.measures.contract import Measure, Value
from erasure.measures.requested_models import Original, Repeated, Retrained, Shadow, UnlearnedShadow
from erasure.training.forward import logits_of

SHADOW = Shadow(number=0, pool=("forget", "test"), always=("retain",))
REQUESTS = (
    *(Retrained(number=k) for k in (1, 2, 3)),
    *(Original(number=k) for k in (1, 2)),
    *(Repeated(number=k, origin=k) for k in (1, 2)),
    Repeated(number=3),
    *(SHADOW.numbered(k) for k in range(4)),
    *(UnlearnedShadow(number=k, shadow=SHADOW) for k in range(4)),
    *(UnlearnedShadow(number=k, shadow=SHADOW, share=0.5, draw=d) for k in range(2) for d in (0, 1)),
)


@dataclass(frozen=True, kw_only=True)
class Probe(Measure):
    """Looks at one model of each kind."""

    forget: str = "forget"
    test: str = "test"

    def requests(self, subject):
        """One of each."""
        return [(request, (self.forget, self.test)) for request in REQUESTS]

    def partitions(self):
        """The two sides of the game."""
        return (self.forget, self.test)

    def measure(self, evaluation) -> Sequence[Value]:
        """The accuracy of each model on the forget set, and how many samples it has seen and forgotten."""
        bank, values = evaluation.models(), []
        for number, request in enumerate(REQUESTS):
            outputs = bank.outputs(request, self.forget)
            name = f"{number} {type(request).__name__}"
            assert bool((outputs.ids == evaluation.ids(self.forget).cpu()).all())
            model = bank.load(request)
            ids = evaluation.ids(self.forget)
            again = logits_of(model(evaluation.x.gather(ids))).argmax(1).cpu()
            assert bool((again == outputs.predictions).all())
            values += [
                Value(value=outputs.accuracy, name=f"{name} accuracy"),
                Value(value=len(bank.seen(request)), name=f"{name} seen"),
                Value(value=len(bank.forgotten(request)), name=f"{name} forgotten"),
                Value(value=float(outputs.losses.double().sum()), name=f"{name} loss"),
            ]
        return values
