"""Examples and their number: the same ones every time, or as many new ones as EDGEEMO_FUZZ gives."""

import copy
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_CHECKS = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large)
_NEW = os.environ.get("EDGEEMO_FUZZ")
FEW = settings(max_examples=100, derandomize=True, deadline=None, database=None, suppress_health_check=_CHECKS)
MANY = settings(FEW, max_examples=int(_NEW or 500), derandomize=_NEW is None, print_blob=True)

numbers = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**63, -(2**63), 10**25, 0.0, -0.0, 1e-320, 1e308, True]),
    st.integers(),
    st.floats(),
)
texts = st.one_of(
    st.text(max_size=20), st.sampled_from(["", "\x1b[2J", "\ud800", "a" * 3_000, "../../x", "1e9", "None"])
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


def places(content, path=()):
    """Return the path to every value within lists and dictionaries."""
    found = [path]
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        found += places(value, (*path, key))
    return found


@st.composite
def changed(draw, content):
    """Draw a copy of nested data with one to three values replaced, removed, doubled or added."""
    made = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([path for path in places(made) if path]))
        holder = made
        for key in way:
            holder = holder[key]
        what = draw(st.sampled_from(["replace", "replace", "remove", "add", "double"]))
        if what == "replace":
            holder[last] = draw(anything)
        elif what == "remove":
            del holder[last]
        elif isinstance(holder, dict):
            holder[draw(texts)] = draw(anything) if what == "add" else copy.deepcopy(holder[last])
        else:
            holder.append(draw(anything) if what == "add" else copy.deepcopy(holder[last]))
        if not any(places(made)):
            break
    return made


@st.composite
def damaged(draw, content, longest=64):
    """Draw bytes of which some are flipped, cut out, doubled, put in, or cut off at the end."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        # The first bytes define what the rest means.
        at = draw(st.integers(0, min(len(made), draw(st.sampled_from([longest, max(len(made), 1)])))))
        what = draw(st.sampled_from(["set", "set", "set", "cut", "double", "put in", "end"]))
        if what == "set":
            put = draw(st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b"\xff" * 4, b"\0" * 4])))
            made[at : at + len(put)] = put
        elif what == "cut":
            del made[at : at + draw(st.integers(1, 8))]
        elif what == "double":
            made[at:at] = made[at : at + draw(st.integers(1, 64))]
        elif what == "put in":
            made[at:at] = draw(st.binary(min_size=1, max_size=16))
        else:
            del made[at:]
    return bytes(made)
