"""coremltools, without what it says on Linux about things that are not used here."""

from __future__ import annotations

import logging
from typing import Any

from egeunet.model.errors import MissingExtraError


def coremltools() -> Any:
    """The package ``coremltools``.

    Raises:
        MissingExtraError: it is not installed.
    """
    # At import it warns that its scikit-learn and PyTorch converters are untested with
    # today's versions (we use neither) and that Apple's runtime is absent (it is, on Linux).
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import coremltools
    except ModuleNotFoundError as error:
        raise MissingExtraError("coremltools", "coreml") from error
    finally:
        logger.setLevel(level)
    return coremltools
