"""YAML of the user's, as YAML 1.2 and without any tag of Python's; a mistake in it is one sentence."""

from typing import Any

from pipeline.core.errors import UserError


def load_yaml(text: str, name: str, advice: str) -> Any:
    """The value of a YAML text. ruamel.yaml and not PyYAML: DVC writes 2e-6 without a point, text to YAML 1.1.

    Args:
        name: of the file, for the message.
        advice: the next command.

    Raises:
        UserError: not valid YAML, nested too deep, or a value that Python does not have.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or error
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = " ".join(f"{place}{problem}".split())
        raise UserError(f"{name}: not valid YAML ({reason[:200]}); {advice}") from None
    except RecursionError:
        raise UserError(f"{name}: not valid YAML (nested too deep); {advice}") from None
    except (ValueError, TypeError, OverflowError, AttributeError, LookupError) as error:  # dates, numbers, keys
        raise UserError(f"{name}: not valid YAML ({str(error)[:200]}); {advice}") from None
