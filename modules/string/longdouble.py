"""Redis's long doubles: 80-bit extended precision, as x86-64 computes and prints them.

INCRBYFLOAT and INCREX BYFLOAT add with a mantissa of 64 bits and write the sum
with at most 17 decimals. ``Finite`` holds one such number exactly; an infinity
is a float.
"""

from __future__ import annotations

import math
import re
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple

MANTISSA_BITS = 64
#: The smallest denormal is 2 ** LEAST_POWER, the largest number is below 2 ** TOP_POWER.
LEAST_POWER, TOP_POWER = -16445, 16384

#: Redis reads numbers into a buffer of 5 KB, its end included.
LONGEST = 5 * 1024 - 1
#: Decimal exponents beyond which nothing is left of a number but zero or infinity.
_HIGHEST, _LOWEST = 5000, -5000
_DECIMALS = 17
_SCALE: int = 10**_DECIMALS
#: Python refuses to read and write integers of more than 4300 digits; Decimal does not.
_PLAIN_DIGITS: int = 10**4000

_decimal = re.compile(rb"([+-]?)(?=\.?\d)(\d*)\.?(\d*)(?:[eE]([+-]?\d+))?")
_hexadecimal = re.compile(
    rb"([+-]?)0[xX](?=\.?[0-9a-fA-F])([0-9a-fA-F]*)\.?([0-9a-fA-F]*)(?:[pP]([+-]?\d+))?"
)
_infinity = re.compile(rb"([+-]?)inf(?:inity)?", re.IGNORECASE)
#: Holds all digits of the longest number.
_exact = Context(prec=LONGEST)


class Finite(NamedTuple):
    """The number ``mantissa * 2**power``; the mantissa has at most 64 bits."""

    mantissa: int
    power: int


LongDouble = Finite | float

ZERO = Finite(0, 0)

MAX = Finite(2**MANTISSA_BITS - 1, TOP_POWER - MANTISSA_BITS)
MIN = Finite(-MAX.mantissa, MAX.power)


def parse(word: bytes) -> LongDouble | None:
    """The number that C's strtold reads from the whole of *word*, None if Redis refuses it.

    Refused are spaces, NaN, and what overflows or vanishes; ``inf`` and ``0x1p3`` pass.
    """
    if len(word) > LONGEST:
        return None
    match = _decimal.fullmatch(word)
    if match:
        return _from_decimal(*match.groups())
    match = _hexadecimal.fullmatch(word)
    if match:
        return _from_hexadecimal(*match.groups())
    match = _infinity.fullmatch(word)
    if match:
        return -math.inf if match[1] == b"-" else math.inf
    return None


def _from_decimal(
    sign: bytes, whole: bytes, fraction: bytes, exponent: bytes | None
) -> LongDouble | None:
    power = (_small(exponent) if exponent else 0) - len(fraction)
    digits = whole + fraction
    if len(digits) <= 64:
        number = int(digits)
    else:
        number = int(_exact.create_decimal(digits.decode()))
    if not number:
        return ZERO
    if not _LOWEST < len(digits) + power < _HIGHEST + len(digits):
        return None
    if sign == b"-":
        number = -number
    if power >= 0:
        return _kept(nearest(number * 10**power, 1))
    return _kept(nearest(number, 10**-power))


def _from_hexadecimal(
    sign: bytes, whole: bytes, fraction: bytes, exponent: bytes | None
) -> LongDouble | None:
    number = int(whole + fraction, 16)
    if not number:
        return ZERO
    power = (_small(exponent) if exponent else 0) - 4 * len(fraction)
    if not 2 * LEAST_POWER < number.bit_length() + power < 2 * TOP_POWER:
        return None
    if sign == b"-":
        number = -number
    if power >= 0:
        return _kept(nearest(number << power, 1))
    return _kept(nearest(number, 1 << -power))


def _small(exponent: bytes) -> int:
    """An exponent as an integer; one of many digits is as good as a million."""
    digits = exponent.lstrip(b"+-").lstrip(b"0")
    size = int(digits or b"0") if len(digits) <= 6 else 10**6
    return -size if exponent.startswith(b"-") else size


def _kept(number: LongDouble) -> LongDouble | None:
    """A number that was not zero; None if rounding has left only zero or infinity of it."""
    return number if isinstance(number, Finite) and number.mantissa else None


def nearest(numerator: int, denominator: int) -> LongDouble:
    """The long double nearest to a ratio, ties to even; infinity beyond the largest."""
    size = abs(numerator)
    if denominator == 1 and size.bit_length() <= MANTISSA_BITS:
        return Finite(numerator, 0)
    power = max(size.bit_length() - denominator.bit_length() - MANTISSA_BITS, LEAST_POWER)
    mantissa = _scaled_ratio(size, denominator, power)
    if mantissa.bit_length() > MANTISSA_BITS:
        # The first guess was one too low.
        power += 1
        mantissa = _scaled_ratio(size, denominator, power)
    if mantissa.bit_length() > MANTISSA_BITS:
        # Rounding up has carried to a power of two.
        power += 1
        mantissa >>= 1
    if mantissa.bit_length() + power > TOP_POWER:
        return math.inf if numerator > 0 else -math.inf
    return Finite(mantissa if numerator > 0 else -mantissa, power)


def _scaled_ratio(size: int, denominator: int, power: int) -> int:
    """``size / denominator / 2**power`` as an integer, ties to even."""
    if power < 0:
        return _divide(size << -power, denominator)
    return _divide(size, denominator << power)


def _divide(size: int, by: int) -> int:
    quotient, rest = divmod(size, by)
    rest *= 2
    if rest > by or (rest == by and quotient & 1):
        quotient += 1
    return quotient


def add(one: LongDouble, other: LongDouble) -> LongDouble:
    """The rounded sum; infinity on overflow, NaN for infinities of both signs."""
    if not isinstance(one, Finite):
        return one if isinstance(other, Finite) else one + other
    if not isinstance(other, Finite):
        return other
    if one.power < other.power:
        one, other = other, one
    power = other.power
    mantissa = (one.mantissa << (one.power - power)) + other.mantissa
    if mantissa.bit_length() <= MANTISSA_BITS and power <= 0:
        return Finite(mantissa, power)
    return nearest(mantissa << power, 1) if power > 0 else nearest(mantissa, 1 << -power)


def subtract(one: LongDouble, other: LongDouble) -> LongDouble:
    """The rounded difference, as ``add``."""
    if isinstance(other, Finite):
        return add(one, Finite(-other.mantissa, other.power))
    return add(one, -other)


def order(number: LongDouble) -> Fraction | float:
    """Something that compares as the number does."""
    if not isinstance(number, Finite):
        return number
    mantissa, power = number
    return Fraction(mantissa << power) if power >= 0 else Fraction(mantissa, 1 << -power)


def text(number: LongDouble) -> bytes:
    """As Redis prints for people: C's ``%.17Lf`` without trailing zeros, ``inf``, never ``-0``."""
    if not isinstance(number, Finite):
        return b"inf" if number > 0 else b"-inf"
    mantissa, power = number
    sign = b"-" if mantissa < 0 else b""
    if power >= 0:
        return sign + _digits(abs(mantissa) << power)
    digits = _digits(_divide(abs(mantissa) * _SCALE, 1 << -power)).rjust(_DECIMALS + 1, b"0")
    fraction = digits[-_DECIMALS:].rstrip(b"0")
    whole = digits[:-_DECIMALS]
    if fraction:
        return sign + whole + b"." + fraction
    return whole if whole == b"0" else sign + whole


def _digits(number: int) -> bytes:
    return b"%d" % number if number < _PLAIN_DIGITS else str(Decimal(number)).encode()
