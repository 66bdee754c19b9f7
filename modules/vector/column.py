"""One field of many elements as arrays with an entry for each slot.

An entry is the kind of the value, its number, and a code: for a string its number among the
distinct strings of the column, for a list its number among the lists.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .attributes import MISSING, Missing, Path, Value, select, to_number

Kinds = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

#: Kinds of values. 0 is what new arrays are full of.
ABSENT: Final = 0
NUMBER: Final = 1
STRING: Final = 2
LIST: Final = 3
NULL: Final = 4

#: The code of the empty string in every column, and of whatever is no string.
EMPTY: Final = 0

#: The fewest entries that an array has room for.
SMALLEST = 64


def grown(array: npt.NDArray[Any], least: int) -> npt.NDArray[Any]:
    """A copy with room for *least* entries and more to come; new ones are 0."""
    if len(array) >= least:
        return array
    larger = np.zeros(max(least, len(array) * 3 // 2, SMALLEST), array.dtype)
    larger[: len(array)] = array
    return larger


class Strings:
    """Distinct strings by number; 0 is the empty one."""

    def __init__(self) -> None:
        self.values = [""]
        self._codes = {"": EMPTY}
        self.memory = 0

    def code(self, value: str) -> int:
        """The number of *value*, a new one if need be."""
        code = self._codes.get(value)
        if code is None:
            code = self._codes[value] = len(self.values)
            self.values.append(value)
            self.memory += sys.getsizeof(value) + 100  # the list's and the dictionary's entries
        return code

    def find(self, value: str) -> int:
        """The number of *value*, -1 if no row has it."""
        return self._codes.get(value, -1)


class Lists:
    """The elements of all lists, one after the other; lists are numbered in order."""

    def __init__(self) -> None:
        #: How many lists, and how many elements they have together.
        self.count = 0
        self.elements = 0
        #: For each element: the list that it belongs to, and what it is.
        self.owners: Codes = np.zeros(SMALLEST, np.int32)
        self.kinds: Kinds = np.zeros(SMALLEST, np.uint8)
        self.numbers: Numbers = np.zeros(SMALLEST, np.float64)
        self.codes: Codes = np.zeros(SMALLEST, np.int32)

    def add(self, value: tuple[Value, ...], strings: Strings) -> int:
        """The number of a new list; strings in it are numbered by *strings*."""
        start, end = self.elements, self.elements + len(value)
        if end > len(self.kinds):
            self.owners = grown(self.owners, end)
            self.kinds = grown(self.kinds, end)
            self.numbers = grown(self.numbers, end)
            self.codes = grown(self.codes, end)
        for position, element in enumerate(value, start):
            self.owners[position] = self.count
            self.kinds[position] = kind_of(element)
            self.numbers[position] = to_number(element)
            self.codes[position] = strings.code(element) if type(element) is str else EMPTY
        self.elements = end
        self.count += 1
        return self.count - 1

    @property
    def memory(self) -> int:
        """What the elements take in memory."""
        arrays = (self.owners, self.kinds, self.numbers, self.codes)
        return sum(array.nbytes for array in arrays)


def kind_of(value: Value | Missing) -> int:
    """Which of the kinds a value is."""
    if type(value) is float:
        return NUMBER
    if type(value) is str:
        return STRING
    if type(value) is tuple:
        return LIST
    return NULL if value is None else ABSENT


class Column:
    """One field of all elements."""

    def __init__(self, path: Path, capacity: int) -> None:
        self.path = path
        #: Slots below it are in the column.
        self.built = 0
        self.kinds: Kinds = np.zeros(capacity, np.uint8)
        self.numbers: Numbers = np.zeros(capacity, np.float64)
        self.codes: Codes = np.zeros(capacity, np.int32)
        self.strings = Strings()
        self.lists = Lists()

    def reserve(self, capacity: int) -> None:
        """Make room for slots below *capacity*."""
        self.kinds = grown(self.kinds, capacity)
        self.numbers = grown(self.numbers, capacity)
        self.codes = grown(self.codes, capacity)

    def set(self, slot: int, document: dict[str, Any]) -> None:
        """Take the field from an element's outermost object."""
        value = select(document, self.path)
        self.kinds[slot] = kind_of(value)
        if value is MISSING:
            return
        self.numbers[slot] = to_number(value)
        if type(value) is str:
            self.codes[slot] = self.strings.code(value)
        elif type(value) is tuple:
            self.codes[slot] = self.lists.add(value, self.strings)

    def clear(self, slot: int) -> None:
        """The element is gone, or has no attributes."""
        self.kinds[slot] = ABSENT

    @property
    def kept(self) -> int:
        """How many strings and lists are kept, those of former values too."""
        return len(self.strings.values) + self.lists.count

    @property
    def memory(self) -> int:
        """About what the column takes in memory."""
        arrays = self.kinds.nbytes + self.numbers.nbytes + self.codes.nbytes
        return arrays + self.strings.memory + self.lists.memory
