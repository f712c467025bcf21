"""What stands for attributes where they must not be read."""

from typing import Final

from libs.identity.keys import IdentityKeys

# No identity has this kind, so no identity's key can equal one of these.
_HASHED_KIND: Final = 0
_NAME: Final = "attribute name"
_VALUE: Final = "attribute"


def name_key(keys: IdentityKeys, name: str) -> bytes:
    """Return the keyed hash of an attribute's name, 16 bytes.

    Args:
        keys: The tenant's.
        name: The attribute's, as it was recorded.
    """
    return keys.key(_HASHED_KIND, _NAME, name)


def value_key(keys: IdentityKeys, name: str, value: str) -> bytes:
    """Return the keyed hash of an attribute's name and value, 16 bytes.

    Capitals and spaces at a value's ends don't matter; a name is as it was recorded.

    Args:
        keys: The tenant's.
        name: The attribute's. It may hold anything: its length is hashed with it.
        value: Its value.
    """
    content = f"{len(name)}\0{name}\0{value.strip().casefold()}"
    return keys.key(_HASHED_KIND, _VALUE, content)
