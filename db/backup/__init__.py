"""Backups of a running node, and the way back.

A folder of backups holds a folder each, named after its time. All of it is plain files: `data/` as the node's
data folder, the database's dump, the settings file, SHA256SUMS over them, and `backup.json`, which comes last
and makes it a backup. Files that did not change are links to the backup before.
"""
