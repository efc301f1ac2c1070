"""Panels that are drawn for a page are those that Vega draws from the same figure's specification."""

import re

import pytest

from erasure.records.figure_records import Histogram, Histograms, Roc, RocRange, Rocs
from erasure.reports.figures.models import distributions, rocs
from erasure.reports.figures.panels import Panels, Scale, Trace, percent_ticks, text_width
from erasure.reports.figures.render import inline_svg, plain_svg

pytest.importorskip("vl_convert")

METHODS = ["a", "UNSIR + Finetuning", "c", "<d & e>"]
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def roc_figure(n: int, *, narrow: bool):
    fpr = (0.001, 0.004, 0.02, 0.1, 0.4, 1.0)
    series = [
        Roc(
            label=label,
            tpr=tuple(min(1.0, x * (k + 1)) for x in fpr),
            low=tuple(x / 2 for x in fpr),
            high=tuple(x**0.5 for x in fpr),
        )
        for k, label in enumerate(["original", *METHODS][:n])
    ]
    gold = RocRange(low=tuple(x / 3 for x in fpr), high=tuple(min(1.0, 1.5 * x) for x in fpr))
    return rocs(Rocs(fpr=fpr, series=tuple(series), gold=gold), METHODS, narrow=narrow)


def loss_figure(n: int, *, narrow: bool):
    edges = tuple(10 ** (-6 + 8 * k / 20) for k in range(21))
    series = [
        Histogram(label=label, partition=part, counts=tuple((7 * i + 3 * k + j) % 9 for i in range(20)), n=40)
        for k, label in enumerate(["original", *METHODS][:n])
        for j, part in enumerate(("forget", "retain", "test"))
    ]
    roles = {name: name for name in ("forget", "retain", "test")}
    shown = Histograms(edges=edges, series=tuple(series))
    return distributions(shown, quantity="loss", order=METHODS, roles=roles, gold="original", narrow=narrow)


def numbers(path: str) -> list[float]:
    return [float(each) for each in _NUMBER.findall(path)]


def marks(svg: str, kind: str) -> list[list[float]]:
    """Coordinates of lines (``stroke``) or areas (``fill``) in the order of the panels, each in its panel."""
    return [
        numbers(d)
        for d, rest in re.findall(r'<path d="([^"]+)"([^>]*)/>', svg)
        if f'{kind}="' in rest and "L" in d and "h10" not in d
    ]


def texts(svg: str) -> list[str]:
    found = re.findall(r"<text([^>]*)>([^<]*)</text>", svg)
    return sorted(text for attributes, text in found if 'opacity="0"' not in attributes)


def size(svg: str) -> list[float]:
    return numbers(re.search(r'viewBox="([^"]+)"', svg)[1])[2:]


@pytest.mark.parametrize("make", [roc_figure, loss_figure])
@pytest.mark.parametrize(("n", "narrow"), [(5, False), (5, True), (4, True)])
def test_panels_are_those_of_vega(make, n, narrow):
    figure = make(n, narrow=narrow)
    mine, theirs = inline_svg(figure, "figure"), plain_svg(figure)
    assert texts(mine) == texts(theirs)
    lines, others = marks(mine, "stroke"), marks(theirs, "stroke")
    assert len(lines) == len(others) > n
    for own, other in zip(lines, others, strict=True):
        assert own == pytest.approx(other, abs=0.011)
    for own, other in zip(marks(mine, "fill"), marks(theirs, "fill"), strict=True):
        assert {tuple(point) for point in zip(*ends(own), strict=True)} == {
            tuple(point) for point in zip(*ends(other), strict=True)
        }
    assert size(mine) == pytest.approx(size(theirs), rel=0.06)


def ends(coordinates: list[float]) -> list[list[float]]:
    """Least and largest of both coordinates of an outline, in tenths of pixels."""
    xs, ys = coordinates[::2], coordinates[1::2]
    return [[round(least(values), 1) for values in (xs, ys)] for least in (min, max)]


def test_names_inside_a_figure_are_its_own():
    mine = inline_svg(loss_figure(2, narrow=False), "one")
    assert 'id="one-panel"' in mine
    assert "url(#one-panel)" in mine
    assert "&lt;d &amp; e&gt;" in inline_svg(roc_figure(5, narrow=False), "two")


def test_long_titles_are_cut_and_labels_do_not_stand_on_each_other():
    scale = Scale(low=0.0, high=1.0, labels={0.0: "nothing", 0.5: "half of it", 1.0: "everything"})
    line = Trace(xs=[0.0, 1.0], ys=[0.0, 1.0], colour="#000000")
    svg, *_ = Panels(traces={"W" * 90: [line], "\x07": []}, columns=2, width=60, height=40, x=scale, y=scale).drawn()
    assert re.search(r">W{5,20}…<", svg)
    assert "\N{REPLACEMENT CHARACTER}" in svg
    assert svg.count("half of it") == 1  # on the vertical axis alone


@pytest.mark.parametrize(
    ("high", "labels"),
    [
        (0.5625, ["0%", "20%", "40%"]),
        (1.05, ["0%", "50%", "100%"]),
        (0.02, ["0%", "1%", "2%"]),
        (0.004, ["0.0%", "0.2%", "0.4%"]),
        (0.0, []),
    ],
)
def test_shares_are_named_by_round_numbers(high, labels):
    assert list(percent_ticks(high).values()) == labels


def test_widths_grow_with_size_letters_and_weight():
    assert text_width("iii", 10) < text_width("WWW", 10) < text_width("WWW", 20)
    assert text_width("abc", 10) < text_width("abc", 10, is_bold=True)
    assert text_width("漢字", 10) == 20


def test_what_is_zero_stands_at_the_end_of_a_logarithmic_axis():
    scale = Scale(low=0.0, high=1.0, is_log=True, labels={0.0: "0", 1.0: "1"})
    assert [scale.at(value) for value in (0.0, 1e-6, 1.0)] == pytest.approx([0.0, 0.5, 1.0])
    flat = Histograms(edges=(0.0, 1.0, 2.0), series=(Histogram(label="a", partition="forget", counts=(0, 0), n=2),))
    figure = distributions(flat, quantity="loss", order=["a"], roles={"forget": "forget"}, gold=None)
    assert ">a</text>" in inline_svg(figure, "flat")
