"""What the peers share: a conversion is made once for its weights and kept with its proof.

    FOLDER/ncnn-0123456789abcdef/
        ncnn_float32.ncnn     what the tool wrote, untouched: a file, or a folder of files
        peer.json             whose weights these are, their contract, the tools' versions
    FOLDER/ncnn-0123456789abcdef.log   what the tool printed, kept when it fails, too

Other people's files do not hold our contract, so it stands in ``peer.json``.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from egeunet.benchmarks.peers.conversion import convert_in_a_process
from egeunet.benchmarks.peers.session_runner import Session, SessionRunner
from egeunet.benchmarks.peers.telemetry import no_telemetry
from egeunet.benchmarks.runtimes import missing_package
from egeunet.export.provenance import sha256_of, tree_sha256
from egeunet.export.runners import Runner
from egeunet.export.runners.runner import first_line
from egeunet.model.atomic import explained, replacing
from egeunet.model.contract import ModelContract
from egeunet.model.errors import InputError

#: Of the file that says what a conversion is.
RECORD = "peer.json"
#: Raise it when a recipe of ours changes: conversions made before are then made anew.
_RECIPES = 1


@dataclass(frozen=True)
class Package:
    """A package that a peer needs: the name it is imported by, and its distribution's."""

    module: str
    distribution: str


class ConvertedPeer(ABC):
    """A peer of egeunet-bench: see :class:`egeunet.benchmarks.runtimes.Peer`.

    Attributes:
        name, peer, timed, note: of the protocol.
        precision: of what is computed, for the report.
        suffix: of the converted file.
        packages: what it needs beside this package.
        starts_from: the peer whose conversion it starts from; None = the weights.
    """

    name: str
    peer = True
    timed = True
    note: str | None = None
    precision = "float32"
    suffix: str
    packages: tuple[Package, ...]
    starts_from: type[ConvertedPeer] | None = None

    @abstractmethod
    def convert(self, source: Path, out: Path) -> ModelContract:
        """Write the conversion of ``source`` to ``out``; called in a process of its own.

        Args:
            source: the weights, or what :attr:`starts_from` made of them.
            out: does not exist yet; its suffix is :attr:`suffix`.

        Returns:
            The contract of the weights.
        """

    @abstractmethod
    def session(self, path: Path, threads: int) -> Session:
        """The runtime with the converted file loaded; may raise whatever the runtime raises."""

    def problem(self) -> str | None:
        """Why it cannot run here, in one line that names the pip command; None = it can."""
        for package in self.packages:
            if line := missing_package(package.module, "peers"):
                return line
        return None

    def accepts(self, path: Path) -> bool:
        """Whether ``path`` is a conversion that this peer made."""
        record = _record(path.parent)
        return record is not None and (record["peer"], record["file"]) == (self.name, path.name)

    def cached(self, weights: Path, folder: Path) -> Path | None:
        """The conversion of these weights; None if the versions installed here have not made it."""
        if self.problem():
            return None
        path = self._entry(weights, folder) / f"{self.name}_{self.precision}{self.suffix}"
        record = _record(path.parent)
        if record is None or not path.exists():
            return None
        fresh = record["tools"] == self._tools() and record["sha256"] == tree_sha256(path)
        return path if fresh else None

    def prepare(self, weights: Path, folder: Path) -> Path:
        """Convert the weights, or find the conversion made earlier.

        Args:
            weights: .safetensors or checkpoint of the public code.
            folder: where conversions are kept.

        Returns:
            The converted file or folder of files.

        Raises:
            InputError: a package is missing, or the tool fails; the line names its log.
            OutputError: the folder cannot be written.
        """
        if problem := self.problem():
            raise InputError(problem)
        if found := self.cached(weights, folder):
            return found
        source = weights
        if self.starts_from is not None:
            source = self.starts_from().prepare(weights, folder)
        entry = self._entry(weights, folder).absolute()
        name = f"{self.name}_{self.precision}{self.suffix}"
        with explained(entry):
            if entry.exists():  # other versions made it, or it is damaged
                shutil.rmtree(entry)
        with replacing(entry) as temporary:
            temporary.mkdir()
            log = entry.with_suffix(".log")
            contract = convert_in_a_process(self.name, source, temporary / name, log)
            record = {
                "peer": self.name,
                "file": name,
                "sha256": tree_sha256(temporary / name),
                "weights_sha256": sha256_of(weights),
                "contract": contract,
                "tools": self._tools(),
            }
            (temporary / RECORD).write_text(json.dumps(record, indent=2) + "\n")
        return self._entry(weights, folder) / name  # as given: reports quote it

    def open(self, path: Path, threads: int) -> Runner:
        """Open a conversion on ``threads`` threads; see :class:`SessionRunner`.

        Raises:
            InputError: not made by :meth:`prepare`, or the runtime refuses it.
        """
        if problem := self.problem():
            raise InputError(problem)
        contract = contract_beside(path)
        no_telemetry()
        try:
            session = self.session(path, threads)
        except Exception as error:  # a runtime raises whatever it likes
            message = first_line(error)
            raise InputError(f"{path}: {self.name} cannot load it ({message})") from error
        return SessionRunner(self.name, path, contract, session)

    def _entry(self, weights: Path, folder: Path) -> Path:
        return folder / f"{self.name}-{sha256_of(weights)[:16]}"

    def _tools(self) -> dict[str, Any]:
        names = sorted({"torch", *(package.distribution for package in self.packages)})
        versions = {name: metadata.version(name) for name in names}
        return {"recipes": _RECIPES, **versions}


def contract_beside(path: Path) -> ModelContract:
    """The contract in the record beside a converted file.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    record = _record(path.parent)
    if record is None:
        raise InputError(f"{path}: no {RECORD} beside it; give the weights, not a peer's file")
    return ModelContract.from_dict(record["contract"])


def _record(entry: Path) -> dict[str, Any] | None:
    """What ``peer.json`` says, None where it is absent or not ours."""
    try:
        record = json.loads((entry / RECORD).read_text())
    except (OSError, ValueError):
        return None
    needed = {"peer", "file", "sha256", "contract", "tools"}
    return record if isinstance(record, dict) and needed <= record.keys() else None
