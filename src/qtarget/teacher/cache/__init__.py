"""A teacher's distributions on disk: what was kept of each at every supervised token, found again by content.

contents  what a cache is to hold, and the key that tells it from other caches
format    the files of a cache: plan, shards, manifest
writer    shards written one by one, by any number of ranks; a run that is started again goes on from them
reader    `Cache`: answers about documents, from memory-mapped shards
verify    every number of a cache checked
some_rows  the token ids of some documents, by which their teacher can be asked again
recompute  some rows computed again with a model that is loaded here
same_teacher  whether a server still has the model that a begun cache is of
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
