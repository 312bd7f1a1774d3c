"""A teacher's word on disk: what was kept about every supervised token of a data set, found again by content.

plan      what a cache is to hold, and the key that says what it is of
format    the folder: names, shards, manifest
writer    shards written one by one, by any number of ranks, that a run started again goes on from
reader    `Cache`: answers about documents, from memory-mapped shards
verify    every number of a cache looked at
"""

from qtarget.teacher.cache.contents import CacheOrigin, CachePlan, plan_cache
from qtarget.teacher.cache.format import CacheShard, Manifest
from qtarget.teacher.cache.reader import Cache, open_cache
from qtarget.teacher.cache.verify import Report, verify_cache
from qtarget.teacher.cache.writer import Ranks, write_cache

__all__ = [
    "Cache",
    "CacheOrigin",
    "CachePlan",
    "CacheShard",
    "Manifest",
    "Ranks",
    "Report",
    "open_cache",
    "plan_cache",
    "verify_cache",
    "write_cache",
]
