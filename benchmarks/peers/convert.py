"""``python -m egeunet.benchmarks.peers.convert PEER SOURCE OUT``: one conversion, then the end.

For :mod:`egeunet.benchmarks.peers.conversion`, which starts it as a process of its own. The
last line of its output is the contract of the weights as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from egeunet.benchmarks.peers.conversion import RESULT
from egeunet.benchmarks.peers.converted import ConvertedPeer
from egeunet.benchmarks.peers.telemetry import no_telemetry
from egeunet.benchmarks.runtimes import find_runtime
from egeunet.model.errors import EgeunetError


def main(name: str, source: str, out: str) -> int:
    """Run the conversion; the exit code."""
    no_telemetry()
    try:
        peer = find_runtime(name)
        if not isinstance(peer, ConvertedPeer):
            raise TypeError(f"{name} is not a peer")
        contract = peer.convert(Path(source), Path(out))
    except EgeunetError as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        return error.exit_code
    sys.stdout.flush()
    print(f"\n{RESULT}{json.dumps(contract.to_dict())}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
