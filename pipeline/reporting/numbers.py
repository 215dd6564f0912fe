"""How the page writes shares and differences."""

from decimal import ROUND_HALF_UP, Decimal


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, a half rounded up as people expect and binary floats do not."""
    return str((100 * Decimal(str(share))).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    text = percent(abs(difference))
    sign = "" if not Decimal(text) else "+" if difference > 0 else "−"
    return sign + text
