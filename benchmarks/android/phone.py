"""Which phone, and what it is: ``adb devices``, ``getprop``, ``dumpsys thermalservice``."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from typing import Any

from egeunet.benchmarks.android.adb import Adb
from egeunet.model.errors import InputError

_READY = "device"
_PROPERTIES = {
    "manufacturer": "ro.product.manufacturer",
    "model": "ro.product.model",
    "android": "ro.build.version.release",
    "api_level": "ro.build.version.sdk",
    "abi": "ro.product.cpu.abi",
    "chip": "ro.soc.model",
    "board": "ro.board.platform",
}
#: android.os.Temperature's numbers of what is measured.
_PLACES = {0: "cpu", 1: "gpu", 2: "battery", 3: "skin", 9: "npu"}
_STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")


@dataclass(frozen=True)
class PhoneFacts:
    """What a phone says of itself; the serial number, which identifies its owner, is left out.

    Attributes:
        manufacturer, model, android, api_level, abi, chip, board: system properties; ``chip``
            is empty before Android 12.
    """

    manufacturer: str
    model: str
    android: str
    api_level: str
    abi: str
    chip: str
    board: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    def __str__(self) -> str:
        maker = "" if self.model.startswith(self.manufacturer) else f"{self.manufacturer} "
        return f"{maker}{self.model}, Android {self.android}, {self.abi}"


def connected(listing: str) -> dict[str, str]:
    """Serial number -> state, from what ``adb devices`` prints."""
    phones = {}
    for line in listing.splitlines():
        found = re.match(r"(\S+)\s+(no permissions|\S+)", line)
        if found and not line.startswith(("*", "List of devices", "adb ")):
            phones[found[1]] = found[2]
    return phones


def choose(adb: Adb, serial: str | None) -> Adb:
    """adb for the phone of that serial number, or of ``ANDROID_SERIAL``, or for the only one.

    Raises:
        InputError: no phone, several to choose from, or one that is not ready.
    """
    phones = connected(adb.run("devices", doing="listing the phones"))
    serial = serial or os.environ.get("ANDROID_SERIAL") or None
    listed = ", ".join(f"{name} ({state})" for name, state in phones.items())
    if not phones:
        raise InputError(
            "no Android phone is connected: plug one in by USB, switch on USB debugging in its "
            "developer options and run this again"
        )
    if serial is None:
        ready = [name for name, state in phones.items() if state == _READY]
        if len(ready) > 1:
            raise InputError(f"{len(ready)} phones are connected: {listed}; choose by --serial")
        serial = ready[0] if ready else next(iter(phones))
    if serial not in phones:
        raise InputError(f"no phone {serial} is connected; there is {listed}")
    one = Adb(adb.program, serial)
    if phones[serial] != _READY:
        state = phones[serial]
        if state in ("unauthorized", "authorizing", "offline", "no permissions"):
            said = "unauthorized" if state == "authorizing" else state
            raise one.explain(said, "choosing a phone")
        raise InputError(f"phone {serial} is in state {state!r}; wait until it shows 'device'")
    return one


def facts(adb: Adb) -> PhoneFacts:
    """Ask the phone what it is.

    Raises:
        InputError: it does not answer, or names no ABI.
    """
    command = "; ".join(f"echo {name}=$(getprop {key})" for name, key in _PROPERTIES.items())
    _, text = adb.shell(command, doing="asking the phone what it is")
    values = dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)
    found = PhoneFacts(**{name: values.get(name, "").strip() for name in _PROPERTIES})
    if not found.abi:
        raise InputError(f"phone {adb.serial} does not say what processor it has: {text[:80]!r}")
    return found


def thermal(adb: Adb) -> dict[str, Any] | None:
    """Throttling status and the hottest sensor of each place in degrees Celsius.

    None where the phone has no such service (before Android 10).
    """
    _, text = adb.shell("dumpsys thermalservice", doing="asking for its temperature")
    status = re.search(r"Thermal Status: (\d+)", text)
    # What the hardware says now, rather than what was last reported.
    current = text.partition("Current temperatures from HAL:")[2]
    current = current.partition("Current cooling devices")[0] or text
    hottest: dict[str, float] = {}
    sensor = r"Temperature\{mValue=(-?[\d.]+), mType=(-?\d+),"
    for value, kind in re.findall(sensor, current):
        place = _PLACES.get(int(kind))
        if place is not None:
            hottest[place] = max(hottest.get(place, -273.0), float(value))
    if status is None and not hottest:
        return None
    level = int(status[1]) if status else None
    name = None if level is None or level >= len(_STATUS) else _STATUS[level]
    return {"status": level, "status_name": name, "celsius": hottest}
