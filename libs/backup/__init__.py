"""A copy, outside the databases, of all that can't be folded again, and the way back from it."""

from libs.backup.checking import check_files, check_keys, check_schema
from libs.backup.contents import PARTS, STORE, Part
from libs.backup.databases import present_databases
from libs.backup.dumping import Dumped, dump, keys_within
from libs.backup.errors import BackupError
from libs.backup.manifest import KeysManifest, Manifest, read_keys_manifest, read_manifest
from libs.backup.restoring import Present, Restored, Target, look_at, restore
from libs.backup.secrets import SecretsAtHand, check_secrets

__all__ = [
    "PARTS",
    "STORE",
    "BackupError",
    "Dumped",
    "KeysManifest",
    "Manifest",
    "Part",
    "Present",
    "Restored",
    "SecretsAtHand",
    "Target",
    "check_files",
    "check_keys",
    "check_schema",
    "check_secrets",
    "dump",
    "keys_within",
    "look_at",
    "present_databases",
    "read_keys_manifest",
    "read_manifest",
    "restore",
]
