"""Finished pieces of work, kept in the cache so that a run that was killed need not do them again.

A piece is found by everything that it depends on, which is hashed into its key, so that it is never of
another configuration; it bears checksums, so that a damaged one is as good as none. Time goes on as if the
work had been done: whoever measures or limits it asks `clock`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from calibration.store import Store
from quantize.packing import Array, Json, packed, unpacked
from quantize.parallel import in_order

KIND = "work"

T = TypeVar("T")
Item = TypeVar("Item")


@dataclass(frozen=True)
class Codec(Generic[T]):
    """How a result becomes JSON values and arrays, and a result again, equal in every bit.

    Attributes:
        encode: result -> values and arrays.
        decode: the same backwards; KeyError, ValueError, TypeError and IndexError mean that it is none.
    """

    encode: Callable[[T], tuple[Json, Mapping[str, Array]]]
    decode: Callable[[Json, Mapping[str, Array]], T]


class Work:
    """The finished work of one configuration; for one thread.

    Attributes:
        saved_s: how long the pieces took that were reused.
        reused: names of those pieces, each as often as it was.
        left: whether there was a piece that could have been reused, and was not to be.
    """

    def __init__(self, store: Store | None, context: Mapping[str, Any], *, reuse: bool) -> None:
        """Opens the work of a configuration.

        Args:
            store: where it is kept; None keeps nothing.
            context: what all pieces depend on, as JSON values.
            reuse: whether what is there may be used.
        """
        self._store, self._reuse = store, reuse
        self._context = _digest(context)
        self._taken = 0
        self._made: set[str] = set()  # keys of what this run has done itself
        self.saved_s = 0.0
        self.reused: list[str] = []
        self.left = False

    @classmethod
    def forgotten(cls) -> Work:
        """Work that nobody keeps."""
        return cls(None, {}, reuse=False)

    def clock(self) -> float:
        """Seconds that never go back, in which reused work took as long as it did when it was done."""
        return time.monotonic() + self.saved_s

    def done(self, name: str, facts: Mapping[str, Any], make: Callable[[], T], codec: Codec[T]) -> T:
        """A result: reused, or made and kept.

        Args:
            name: what it is.
            facts: what it depends on besides the context, as JSON values.
            make: makes it; what it raises is passed on.
            codec: of the result.
        """
        (result,) = self.done_each(name, [facts], lambda _: None, lambda _: make(), codec, workers=1)
        return result

    def done_each(
        self,
        name: str,
        facts: Sequence[Mapping[str, Any]],
        prepare: Callable[[int], Item],
        make: Callable[[Item], T],
        codec: Codec[T],
        *,
        workers: int,
    ) -> list[T]:
        """Results of one kind, each reused or made and kept; several may be in the making at once.

        Args:
            name: what they are.
            facts: what each depends on besides the context, as JSON values.
            prepare: called with the position of one that has to be made, in this thread.
            make: makes it of what `prepare` returned, in any thread.
            codec: of the results.
            workers: how many are made at once.
        """
        keys = [_digest({"name": name, "facts": one, "context": self._context}) for one in facts]
        found: dict[int, T] = {}
        for position, key in enumerate(keys if self._store is not None else ()):
            known = self._recalled(key, codec)
            if known is not None:
                found[position], took_s = known
                if key not in self._made:
                    self.saved_s += took_s
                    self.reused.append(name)
        missing = [position for position in range(len(facts)) if position not in found]
        began_s = self.clock()
        made = in_order(make, (prepare(position) for position in missing), workers=workers)
        for position, result in zip(missing, made, strict=True):
            found[position] = result
            # Of those that are made at once, each took as long as it kept the caller waiting.
            ended_s = self.clock()
            self._keep(keys[position], result, codec, ended_s - began_s)
            began_s = ended_s
        return [found[position] for position in range(len(facts))]

    def _keep(self, key: str, result: T, codec: Codec[T], took_s: float) -> None:
        if self._store is None:
            return
        self._made.add(key)
        values, arrays = codec.encode(result)
        self._store.put(KIND, key, packed({"took_s": took_s, "of": values}, arrays))

    def taken(self) -> list[str]:
        """Names of the pieces that were reused since the last call."""
        names = self.reused[self._taken :]
        self._taken = len(self.reused)
        return names

    def _recalled(self, key: str, codec: Codec[T]) -> tuple[T, float] | None:
        assert self._store is not None  # `done` has looked
        if not self._reuse:
            self.left = self.left or self._store.has(KIND, key)
            return None
        content = self._store.get(KIND, key)
        found = None if content is None else unpacked(content)
        if found is None:
            return None
        values, arrays = found
        try:
            return codec.decode(values["of"], arrays), float(values["took_s"])
        except (KeyError, ValueError, TypeError, IndexError):
            return None


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
