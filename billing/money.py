"""Amounts: exact ``Decimal``, a currency, and the only place in the project that rounds.

Never a float (P7). A price may have any number of decimals; an amount is rounded once per document, by the issuer's
written policy, to the currency's minor unit (ISO 4217 exponents 0, 2, 3, 4; billing-rules.md §3).
"""

from collections.abc import Sequence
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal, InvalidOperation
from enum import StrEnum

import msgspec

from billing.errors import InvalidInput

EXACT = Context(prec=60)
"""Enough digits that quantity × unit price is never rounded: 19 digits of tokens times 30 digits of price fit."""

PRICE_DECIMALS_MAX = 18
PRICE_MAX = Decimal(1_000_000_000)

_CODES_BY_EXPONENT = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW "
    "CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR "
    "ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV "
    "MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD "
    "SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
"""Every active code of ISO 4217 by the decimals of its minor unit. Metals, test codes and the like have none and are
no currency that somebody could pay in; ANG and BGN have given way to XCG and EUR."""

_EXPONENTS = {code: decimals for decimals, codes in _CODES_BY_EXPONENT.items() for code in codes.split()}
_CURRENCY_LENGTH = 3


class Rounding(StrEnum):
    """How an issuer rounds a half minor unit."""

    HALF_EVEN = "half_even"
    HALF_UP = "half_up"


_MODES = {Rounding.HALF_EVEN: ROUND_HALF_EVEN, Rounding.HALF_UP: ROUND_HALF_UP}


class Money(msgspec.Struct, frozen=True):
    """An amount in a currency (ISO 4217 code). Adding two currencies raises ``ValueError``."""

    amount: Decimal
    currency: str

    def __add__(self, other: "Money") -> "Money":
        if self.currency != other.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        return Money(EXACT.add(self.amount, other.amount), self.currency)

    def __str__(self) -> str:
        return f"{plain(self.amount)} {self.currency}"


def exponent(currency: str) -> int:
    """Decimals of a currency's minor unit: 0 for JPY, 2 for USD, 3 for KWD; raises ``InvalidInput`` on no currency."""
    return _EXPONENTS[check_currency(currency, "currency")]


def check_currency(code: str, where: str) -> str:
    """An active ISO 4217 code as it must be written; raises ``InvalidInput`` naming ``where``."""
    if len(code) != _CURRENCY_LENGTH or not code.isascii() or not code.isupper() or not code.isalpha():
        raise InvalidInput(
            f"{where}: {code!r} is not a currency code; write three capital letters, for example USD", where
        )
    if code not in _EXPONENTS:
        raise InvalidInput(f"{where}: {code} is no active currency code of ISO 4217, as USD is", where)
    return code


def parse_price(text: str, where: str) -> Decimal:
    """A price written as decimal text, exact; raises ``InvalidInput`` naming ``where`` for anything else.

    Refused: floats already parsed by the caller (pass text), NaN, infinities, exponents, negative prices, more than
    18 decimals, more than 1,000,000,000.
    """
    if not text or set(text) - set("0123456789.-"):
        raise InvalidInput(f'{where}: {text!r} is not a decimal number; write for example "0.25"', where)
    try:
        price = Decimal(text)
    except InvalidOperation:
        raise InvalidInput(
            f'{where}: {text!r} is not a decimal number; write for example "0.25"', where
        ) from None
    if price < 0 or price.is_signed():
        raise InvalidInput(f"{where}: a price cannot be negative, got {text}", where)
    if price > PRICE_MAX:
        raise InvalidInput(f"{where}: {text} is above the largest price of {PRICE_MAX}", where)
    if -int(price.as_tuple().exponent) > PRICE_DECIMALS_MAX:
        raise InvalidInput(f"{where}: {text} has more than {PRICE_DECIMALS_MAX} decimals", where)
    return price


def cost(quantity: int, price: Decimal, per: int) -> Decimal:
    """The exact cost of a quantity at ``price`` for each ``per`` units; ``per`` is a power of ten, so it stays exact."""
    return EXACT.multiply(Decimal(quantity), price).scaleb(-_power_of_ten(per), context=EXACT)


def total(amounts: list[Decimal]) -> Decimal:
    """The exact sum of amounts; zero of none."""
    result = Decimal(0)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def difference(amount: Decimal, less: Decimal) -> Decimal:
    """What is left of an amount, exact: Python's own minus would round to the 28 digits of its default context."""
    return EXACT.subtract(amount, less)


def to_minor(amount: Decimal, currency: str, rounding: Rounding) -> int:
    """An amount rounded to whole minor units of its currency: ``0.005 USD`` is 0 half-even and 1 half-up."""
    scaled = amount.scaleb(exponent(currency), context=EXACT)
    return int(scaled.quantize(Decimal(1), rounding=_MODES[rounding], context=EXACT))


def from_minor(minor: int, currency: str) -> Decimal:
    """The amount of whole minor units, with the currency's decimals: ``-5 USD`` cents is ``-0.05``."""
    return Decimal(minor).scaleb(-exponent(currency), context=EXACT)


def allocate(total_minor: int, amounts: Sequence[Decimal], currency: str) -> list[int]:
    """A rounded total as whole minor units of each exact amount, so that what is printed adds up (billing-rules.md §3).

    Each amount is cut to its minor units; those that the total has more go, one each, to the largest remainders, of equal
    ones to the first. Raises ``ValueError`` when the total is not what the amounts may round to.
    """
    scaled = [amount.scaleb(exponent(currency), context=EXACT) for amount in amounts]
    minors = [int(each.to_integral_value(rounding=ROUND_FLOOR, context=EXACT)) for each in scaled]
    missing = total_minor - sum(minors)
    if not 0 <= missing <= len(minors):
        raise ValueError(f"{total_minor} is no rounded sum of amounts that are cut to {sum(minors)}")
    remainders = [EXACT.subtract(each, Decimal(minor)) for each, minor in zip(scaled, minors, strict=True)]
    for index in sorted(range(len(minors)), key=lambda index: remainders[index].copy_negate())[:missing]:
        minors[index] += 1
    return minors


def plain(amount: Decimal) -> str:
    """Decimal text without an exponent and without trailing zeros beyond what was exact: ``1E-7`` is ``0.0000001``."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _power_of_ten(per: int) -> int:
    power = len(str(per)) - 1
    if per != 10**power:
        raise ValueError(f"per {per} is not a power of ten")
    return power
