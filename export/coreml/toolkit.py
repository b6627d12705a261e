"""coremltools, without what it says on Linux about things that are not used here."""

from __future__ import annotations

import logging
from typing import Any

from egeunet.model.errors import needs_extra


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
        with needs_extra("coreml"):
            import coremltools
    finally:
        logger.setLevel(level)
    return coremltools
