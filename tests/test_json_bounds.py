"""JSON that takes long to decode is refused before it is, and no other."""

from __future__ import annotations

import msgspec
import pytest

from chatcluster.json_bounds import EXTREMES_MAX, VALUES_MAX, bounded


@pytest.mark.parametrize("number", ["1e308", "1E+308", "4.9e-324", "1e0000308", "1.7976931348623157e308", "5e300"])
def test_p10_very_many_numbers_of_an_extreme_size_are_refused(number: str) -> None:
    """Each takes hundreds of times what others do: a mebibyte of them kept the loop for more than a second."""
    few, many = (f"[{','.join([number] * count)}]".encode() for count in (EXTREMES_MAX, EXTREMES_MAX + 1))
    assert len(msgspec.json.decode(bounded(few))) == EXTREMES_MAX
    with pytest.raises(msgspec.ValidationError):
        bounded(many)


@pytest.mark.parametrize("value", ["0", "{}", "[]", '""', '"a"', '{"a":1}', '"\\""', '"\\\\"'])
def test_p10_very_many_values_are_refused(value: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        bounded(f"[{','.join([value] * (VALUES_MAX + 2))}]".encode())


@pytest.mark.parametrize("text", [",", ",,", '\\",', "\\\\,", ",\\\\\\\\", "[{,", "0.5,", "1e3,"])
def test_a_long_text_is_one_value_whatever_is_in_it(text: str) -> None:
    document = f'{{"content": "{text * VALUES_MAX}", "more": ["{text * 1000}"]}}'.encode()
    assert bounded(document) is document


@pytest.mark.parametrize("text", ["June-30-2026", "page-3-01", "e2+91"])
def test_a_sign_belongs_to_an_exponent_only_where_it_begins_one(text: str) -> None:
    document = ("[" + ",".join([f'"{text}"'] * (EXTREMES_MAX + 1)) + "]").encode()
    assert bounded(document) is document


def test_ordinary_numbers_are_taken_however_many_there_are_of_them() -> None:
    document = f"[{','.join(['0.1', '1e10', '-2.5e-7', '1e22'] * (VALUES_MAX // 4))}]".encode()
    assert bounded(document) is document
