"""Evaluates a filter on columns, block by block, with the result that each row would give.

A program of `filters.py` runs once for a block of rows; what its stack holds are operands of a
whole block. Operators give numbers, so only fields and literals are ever strings, lists or null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .attributes import Path, Value, is_true, to_number
from .column import ABSENT, EMPTY, LIST, NULL, NUMBER, STRING, Codes, Column, Kinds, Mask, Numbers
from .filters import BINARY, Constant, Filter, Operator, Selector, power

#: Rows of a block: what it needs fits into a processor's cache.
BLOCK = 16384

_ARITHMETIC: dict[Operator, np.ufunc] = {
    Operator.MULTIPLY: np.multiply,
    Operator.DIVIDE: np.divide,
    Operator.REMAINDER: np.fmod,
    Operator.ADD: np.add,
    Operator.SUBTRACT: np.subtract,
}

_COMPARISON: dict[Operator, np.ufunc] = {
    Operator.GREATER: np.greater,
    Operator.GREATER_EQUAL: np.greater_equal,
    Operator.LESS: np.less,
    Operator.LESS_EQUAL: np.less_equal,
}


class Field(NamedTuple):
    """A column's values in some rows, or the elements of its lists."""

    column: Column
    kinds: Kinds
    numbers: Numbers
    codes: Codes

    def take(self, rows: npt.NDArray[np.intp]) -> Field:
        """Some of them."""
        return Field(self.column, self.kinds[rows], self.numbers[rows], self.codes[rows])


#: Numbers or truths that were computed.
Computed: TypeAlias = npt.NDArray[Any]

#: A literal, or what follows from literals alone; a field; what was computed.
Operand: TypeAlias = "Constant | Field | Computed"

#: The answers of ``in`` for each string or list of a column, by its place in the program and kind.
_Answers: TypeAlias = dict[tuple[int, int], Mask]


def evaluate(wanted: Filter, columns: Mapping[Path, Column], result: Mask) -> None:
    """Clear in *result* each row that does not match; rows are the columns' first ones."""
    answers: _Answers = {}
    if () in wanted.paths:  # a selector without a name
        result[:] = False
        return
    with np.errstate(all="ignore"):
        for start in range(0, len(result), BLOCK):
            part = slice(start, min(start + BLOCK, len(result)))
            fields = {path: _field(column, part) for path, column in columns.items()}
            for field in fields.values():
                result[part] &= field.kinds != ABSENT
            result[part] &= _Block(fields, answers, part.stop - part.start).run(wanted)


def _field(column: Column, part: slice) -> Field:
    return Field(column, column.kinds[part], column.numbers[part], column.codes[part])


class _Block:
    """One run of a program."""

    def __init__(self, fields: Mapping[Path, Field], answers: _Answers, rows: int) -> None:
        self.fields = fields
        self.answers = answers
        self.rows = rows

    def run(self, wanted: Filter) -> Mask | bool:
        """Which rows the program's value is true for."""
        stack: list[Operand] = []
        for place, step in enumerate(wanted.program):
            if isinstance(step, Selector):
                stack.append(self.fields[step.path])
            elif isinstance(step, Constant):
                stack.append(step)
            elif step is Operator.NOT:
                right = stack.pop()
                if isinstance(right, Constant):
                    stack.append(Constant(float(not is_true(right.value))))
                else:
                    stack.append(np.logical_not(_truth(right)))
            else:
                right = stack.pop()
                stack.append(self._binary(place, step, stack.pop(), right))
        return _truth(stack[0])

    def _binary(self, place: int, operator: Operator, left: Operand, right: Operand) -> Operand:
        if isinstance(left, Constant) and isinstance(right, Constant):
            return Constant(BINARY[operator](left.value, right.value))
        if (arithmetic := _ARITHMETIC.get(operator)) is not None:
            return _applied(arithmetic, left, right)
        if (comparison := _COMPARISON.get(operator)) is not None:
            return _applied(comparison, left, right)
        if operator is Operator.POWER:
            return _power(left, right, self.rows)
        if operator is Operator.AND:
            return _logical(np.logical_and, left, right)
        if operator is Operator.OR:
            return _logical(np.logical_or, left, right)
        if operator is Operator.IN:
            return self._contained(place, left, right)
        equal = _equal(left, right)
        return ~equal if operator is Operator.NOT_EQUAL else equal

    def _contained(self, place: int, left: Operand, right: Operand) -> Mask:
        """``in``."""
        if isinstance(right, Constant):
            return self._in_constant(place, left, right.value)
        result = np.zeros(self.rows, np.bool_)
        if not isinstance(right, Field):
            return result
        lists = np.flatnonzero(right.kinds == LIST)
        strings = np.flatnonzero(right.kinds == STRING)
        if isinstance(left, Constant):
            needle = left.value
            if len(lists):
                answer = self._answer(place, LIST, lambda: _in_lists(needle, right.column))
                result[lists] = answer[right.codes[lists]]
            if len(strings) and isinstance(needle, str):
                answer = self._answer(
                    place, STRING, lambda: _of_strings(right.column, lambda text: needle in text)
                )
                result[strings] = answer[right.codes[strings]]
            return result
        if len(lists):
            result[_rows_in_lists(left, right, lists)] = True
        if len(strings) and isinstance(left, Field):
            rows = strings[left.kinds[strings] == STRING]
            parts, wholes = left.column.strings.values, right.column.strings.values
            pairs = zip(left.codes[rows].tolist(), right.codes[rows].tolist(), strict=True)
            result[rows] = [parts[part] in wholes[whole] for part, whole in pairs]
        return result

    def _in_constant(self, place: int, left: Operand, right: Value) -> Mask:
        if isinstance(right, tuple):
            return _one_of(left, right)
        result = np.zeros(self.rows, np.bool_)
        if isinstance(left, Field) and isinstance(right, str):
            rows = np.flatnonzero(left.kinds == STRING)
            answer = self._answer(
                place, STRING, lambda: _of_strings(left.column, lambda text: text in right)
            )
            result[rows] = answer[left.codes[rows]]
        return result

    def _answer(self, place: int, kind: int, find: Callable[[], Mask]) -> Mask:
        """What *find* gives, which is the same for all blocks."""
        answer = self.answers.get((place, kind))
        if answer is None:
            answer = self.answers[place, kind] = find()
        return answer


def _applied(function: np.ufunc, left: Operand, right: Operand) -> Computed:
    result: Computed = function(_numbers(left), _numbers(right))
    return result


def _logical(function: np.ufunc, left: Operand, right: Operand) -> Mask:
    result: Mask = function(_truth(left), _truth(right))
    return result


def _numbers(operand: Operand) -> Numbers | float:
    if isinstance(operand, Constant):
        return to_number(operand.value)
    if isinstance(operand, Field):
        return operand.numbers
    return operand.astype(np.float64, copy=False)


def _truth(operand: Operand) -> Mask | bool:
    if isinstance(operand, Constant):
        return is_true(operand.value)
    if isinstance(operand, Field):
        kinds = operand.kinds
        result: Mask = (kinds == NUMBER) & (operand.numbers != 0)
        result |= kinds == LIST
        result |= (kinds == STRING) & (operand.codes != EMPTY)
        return result
    return operand.astype(np.bool_, copy=False)  # also NaN is true


def _equal(left: Operand, right: Operand) -> Mask:
    """``==`` of operands of which not both are constants."""
    if isinstance(left, Constant) or (isinstance(right, Field) and not isinstance(left, Field)):
        left, right = right, left
    if isinstance(right, Constant):
        return _equals(left, right.value)
    result: Mask = np.equal(_numbers(left), _numbers(right))
    if not isinstance(left, Field):
        return result
    if not isinstance(right, Field):
        result &= left.kinds != NULL
        return result
    both = (left.kinds == STRING) & (right.kinds == STRING)
    result = np.where(both, left.codes == _translated(right, left.column), result)
    nulls = np.stack((left.kinds == NULL, right.kinds == NULL))
    result &= ~nulls.any(axis=0)
    result |= nulls.all(axis=0)
    return result


def _equals(left: Operand, value: Value) -> Mask:
    """``==`` of an operand that is no constant with a literal."""
    numbers = _numbers(left)
    assert isinstance(numbers, np.ndarray)
    result: Mask = np.equal(numbers, to_number(value))
    if value is None:
        return np.equal(left.kinds, NULL) if isinstance(left, Field) else np.zeros_like(result)
    if not isinstance(left, Field):
        return result
    result &= left.kinds != NULL
    if isinstance(value, str):
        code = left.column.strings.find(value)
        result = np.where(left.kinds == STRING, left.codes == code, result)
    return result


def _one_of(left: Operand, values: tuple[Value, ...]) -> Mask:
    """``in`` a literal list."""
    numbers = _numbers(left)
    literal = [value for value in values if isinstance(value, float)]
    as_numbers = [number for number in map(to_number, values) if number == number]
    result: Mask = np.isin(numbers, as_numbers)
    if not isinstance(left, Field):
        return result
    result &= left.kinds != NULL
    strings = left.column.strings
    codes = [strings.find(value) for value in values if isinstance(value, str)]
    texts = np.isin(left.codes, codes) | np.isin(numbers, literal)
    return np.where(left.kinds == STRING, texts, result)


def _translated(field: Field, column: Column) -> Codes:
    """The codes of a field's strings as another column has them, -1 for unknown ones."""
    if field.column is column:
        return field.codes
    strings = field.column.strings.values
    rows = np.flatnonzero(field.kinds == STRING)
    codes = np.full(len(field.codes), -1, np.int32)
    codes[rows] = [column.strings.find(strings[code]) for code in field.codes[rows].tolist()]
    return codes


def _elements(column: Column) -> Field:
    """The elements of all lists of a column."""
    lists = column.lists
    part = slice(0, lists.elements)
    return Field(column, lists.kinds[part], lists.numbers[part], lists.codes[part])


def _in_lists(value: Value, column: Column) -> Mask:
    """For each list of a column whether the value is an element."""
    lists = column.lists
    answer = np.zeros(lists.count, np.bool_)
    answer[lists.owners[: lists.elements][_equals(_elements(column), value)]] = True
    return answer


def _rows_in_lists(
    left: Field | Computed, right: Field, rows: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """Those of *rows*, which have lists on the right, whose left value is an element."""
    lists = right.column.lists
    owners = lists.owners[: lists.elements]
    starts = np.searchsorted(owners, right.codes[rows], "left")
    lengths = np.searchsorted(owners, right.codes[rows], "right") - starts
    # One entry for each element of each row's list.
    each = np.repeat(rows, lengths)
    ends = np.cumsum(lengths)
    elements = np.arange(len(each)) + np.repeat(starts - (ends - lengths), lengths)
    found = left.take(each) if isinstance(left, Field) else left[each]
    return each[_equal(found, _elements(right.column).take(elements))]


def _of_strings(column: Column, test: Callable[[str], bool]) -> Mask:
    """For each distinct string of a column what *test* says of it."""
    values = column.strings.values
    return np.fromiter(map(test, values), np.bool_, len(values))


def _power(left: Operand, right: Operand, rows: int) -> Numbers:
    """``**``, one row after the other: NumPy's power may differ from C's in the last bit."""
    return np.fromiter(map(power, _each(left), _each(right)), np.float64, rows)


def _each(operand: Operand) -> Iterable[float]:
    numbers = _numbers(operand)
    return repeat(numbers) if isinstance(numbers, float) else numbers.tolist()
