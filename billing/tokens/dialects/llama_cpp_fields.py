"""Which members of a native llama.cpp reply its client sees (``tools/server``, measured on xllamacpp 2026.10.11549).

``response_fields`` names the members of the final object, with slashes for nested ones: ``timings/cache_n`` moves that
number to the root under the whole name. The engine leaves out what does not exist, keeps the order asked for, and takes
anything but a list of names, or an empty one, for the wish to see all. Partial events of a stream are never reduced. The
gateway asks for the counts besides, and takes them out again.
"""

import msgspec

COUNT_FIELDS = ("index", "stop", "tokens_predicted", "tokens_evaluated", "timings/cache_n")
"""What metering must see of a final object."""
_SETTINGS = "generation_settings"
_TIMED = "timings_per_token"
_FALSE = msgspec.Raw(b"false")

RawMembers = dict[str, msgspec.Raw]
decode_members = msgspec.json.Decoder(RawMembers).decode
decode_array = msgspec.json.Decoder(list[RawMembers]).decode


class View(msgspec.Struct, frozen=True):
    """What a client asked to see: ``fields`` empty is all; ``timed`` whether partial events carry timings."""

    fields: tuple[str, ...] = ()
    timed: bool = False

    def upstream_fields(self) -> list[str]:
        """The fields to ask for: the client's own, in their order, then the counts."""
        return list(dict.fromkeys((*self.fields, *COUNT_FIELDS)))

    def of_partial(self, members: RawMembers) -> RawMembers:
        """A partial event without the timings that only metering asked for."""
        if not self.timed:
            members.pop("timings", None)
        return members

    def of_final(self, members: RawMembers, *, stream: bool) -> RawMembers:
        """A final object without the counts that only metering asked for; ``stream``: one that ends a stream."""
        # An older engine does not know response_fields: its object is whole, and nothing in it was added.
        if self.fields and members.keys() <= {*self.fields, *COUNT_FIELDS}:
            members = {name: value for name, value in members.items() if name in self.fields}
        return _untimed(members) if stream and not self.timed else members


def _untimed(members: RawMembers) -> RawMembers:
    """The echoed settings as the client sent them: only metering asked for timings on each token."""
    if f"{_SETTINGS}/{_TIMED}" in members:
        members[f"{_SETTINGS}/{_TIMED}"] = _FALSE
    settings = members.get(_SETTINGS)
    if settings is not None:
        members[_SETTINGS] = with_setting(settings, _TIMED, _FALSE)
    return members


def with_setting(settings: msgspec.Raw, name: str, value: msgspec.Raw) -> msgspec.Raw:
    """The echoed settings with one of them put back; as they came when they cannot be read or do not hold it."""
    try:
        known = decode_members(settings)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return settings
    if name not in known:
        return settings
    known[name] = value
    return msgspec.Raw(msgspec.json.encode(known))
