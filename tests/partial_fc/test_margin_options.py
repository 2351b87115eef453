"""Making a margin by name: its options, and what is refused in one line."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from partial_fc import PartialFC
from partial_fc.errors import HeadInputError
from partial_fc.margins import MARGINS, CosFace, CosineMargin, Softmax, make_margin, options_of
from tests.partial_fc.asking import EXAMPLES


def test_every_margin_is_made_by_its_name() -> None:
    assert len(MARGINS) == 12
    assert {type(one) for one in EXAMPLES} == set(MARGINS.values())
    for name, kind in MARGINS.items():
        assert make_margin(name) == kind()
        assert make_margin(name, scale=8.0) == kind(scale=8.0)
        assert make_margin(name, scale=None) == kind(), "None keeps the default"
        assert kind.__name__.lower() == name
        assert kind().has_bias == (kind is Softmax)
        assert hash(kind()) == hash(kind())
    found = make_margin("cosface", margin=0.4, centres_per_class=3, filter_above=0.5)
    assert found == CosFace(64.0, 0.4, centres_per_class=3, filter_above=0.5)
    assert not Softmax(bias=False).has_bias


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("cosfaces", {}, "unknown loss 'cosfaces': .*cosface"),
        ("ArcFace", {}, "unknown loss 'ArcFace': .*arcface"),
        ("", {}, "unknown loss '': .*softmax"),
        ("cosface", {"margn": 0.3}, "CosFace has no option margn: did you mean margin?"),
        ("magface", {"norm_hi": 0.3}, "MagFace has no option norm_hi: did you mean norm_high?"),
        ("softmax", {"zzz": 1}, "Softmax has no option zzz: it has scale, bias"),
        ("softmax", {"margin": 0.3}, "Softmax has no option margin"),
        ("sphereface", {"centres_per_class": 2}, "SphereFace has no option centres_per_class"),
    ],
)
def test_unknown_names_and_options_are_refused_naming_the_nearest(
    name: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(HeadInputError, match=said):
        make_margin(name, **options)


def test_a_part_of_a_centre_is_refused() -> None:
    with pytest.raises(HeadInputError, match="centres_per_class"):
        make_margin("cosface", centres_per_class=1.5)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "option", "values"),
    [
        *((name, "scale", [0, -1.0, NAN, INF]) for name in MARGINS),
        *(
            (name, option, values)
            for name, kind in MARGINS.items()
            if issubclass(kind, CosineMargin)
            for option, values in (("centres_per_class", [0, -1]), ("filter_above", [0, -0.1, 1.01, NAN]))
        ),
        ("cosface", "margin", [-0.1, NAN, INF]),
        ("arcface", "margin", [-0.1, math.pi, NAN]),
        ("curricularface", "margin", [-0.1, math.pi, NAN]),
        ("curricularface", "forgets", [0, 1.1, NAN]),
        ("combinedmargin", "m1", [0.99, -1, INF, NAN]),
        ("combinedmargin", "m2", [-0.1, math.pi, NAN]),
        ("combinedmargin", "m3", [-0.1, INF, NAN]),
        ("elasticface", "margin", [-0.1, math.pi, NAN]),
        ("elasticface", "std", [-0.1, 1.1, NAN]),
        ("elasticface", "on", ["angles", "", 3]),
        *((name, "margin", [0, 5, 1.5, NAN]) for name in ("sphereface", "spherefacenormfea", "lsoftmax")),
        *(
            (name, option, [-1, INF, NAN])
            for name in ("sphereface", "spherefacenormfea", "lsoftmax")
            for option in ("lambda_first", "lambda_least", "lambda_falls")
        ),
        ("adaface", "margin", [-0.1, math.pi / 2, NAN]),
        ("adaface", "h", [0, -1, INF, NAN]),
        ("adaface", "forgets", [0, 1.1, NAN]),
        ("magface", "norm_low", [0, -1, 110.0, NAN]),
        ("magface", "norm_high", [10.0, INF, NAN]),
        ("magface", "margin_low", [-0.1, 0.81, NAN]),
        ("magface", "margin_high", [0.44, math.pi, NAN]),
        ("magface", "weight", [-1, INF, NAN]),
    ],
)
def test_values_out_of_range_are_refused_naming_the_option(
    name: str, option: str, values: list[object]
) -> None:
    for value in values:
        with pytest.raises(HeadInputError, match=rf"\b{option}\b.*, got "):
            make_margin(name, **{option: value})


@pytest.mark.parametrize("value", ["0.35", True, None, [0.35], CosFace])
def test_a_value_of_another_type_is_refused_by_the_class_itself(value: object) -> None:
    with pytest.raises(HeadInputError, match=r"^margin must be a finite number of at least 0, got "):
        CosFace(margin=value)  # type: ignore[arg-type]
    with pytest.raises(HeadInputError, match=r"^scale must be a finite number above 0, got "):
        make_margin("softmax", scale=value if value is not None else "None")
    with pytest.raises(HeadInputError, match=r"^bias must be True or False, got "):
        Softmax(bias=value if value is not True else 1)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Own(CosFace):
    """A margin of one's own: another default, and a field of which nothing is declared."""

    margin: float = 0.2
    extra: str = "x"


def test_a_class_of_ones_own_keeps_the_ranges_of_its_base() -> None:
    assert Own().margin == options_of(Own)["margin"].default == 0.2
    assert "extra" not in options_of(Own)
    assert Own(extra="y").extra == "y"
    with pytest.raises(HeadInputError, match="margin must be a finite number of at least 0, got -1"):
        Own(margin=-1)


class Halved(Softmax):
    """A bias, and negatives that are changed."""

    @property
    def changes_negatives(self) -> bool:
        return True


def test_a_bias_and_changed_negatives_do_not_go_together() -> None:
    with pytest.raises(HeadInputError, match="Halved has a bias: then it can neither"):
        PartialFC(10, 4, Halved())
