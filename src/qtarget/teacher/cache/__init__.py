"""A teacher's distributions on disk: what was kept of each at every supervised token, found again by content.

contents  what a cache is to hold, and the key that tells it from other caches
format    the files of a cache: plan, shards, manifest
ragged    as many tokens kept as their mass asks for, as bytes
writer    shards written one by one, by any number of ranks; a run that is started again goes on from them
reader    `Cache`: answers about documents, from memory-mapped shards
parts     which part of a cache a process writes, and who else writes
growing   `GrowingCache`: the same while the cache is still being written
verify    every number of a cache checked
some_rows  the token ids of some documents, by which their teacher can be asked again
recompute  some rows computed again with a model that is loaded here
same_teacher  whether a server still has the model that a begun cache is of
"""

from qtarget.teacher.cache.contents import ByMass, CacheOrigin, CachePlan, plan_cache
from qtarget.teacher.cache.format import CacheShard, Manifest
from qtarget.teacher.cache.growing import GrowingCache, follow_cache
from qtarget.teacher.cache.parts import CachePart
from qtarget.teacher.cache.reader import Cache, open_cache
from qtarget.teacher.cache.verify import Report, verify_cache
from qtarget.teacher.cache.writer import Ranks, write_cache

__all__ = [
    "ByMass",
    "Cache",
    "CacheOrigin",
    "CachePart",
    "CachePlan",
    "CacheShard",
    "GrowingCache",
    "Manifest",
    "Ranks",
    "Report",
    "follow_cache",
    "open_cache",
    "plan_cache",
    "verify_cache",
    "write_cache",
]
