"""Guests made without the model, for tests of the dump formats: a p2m, its leaves and its list.

`build` returns a `GuestImage` that is right by construction: every structure page is one of the
guest's pages, the list holds the true frames. Tests then break one thing at a time.
"""

from __future__ import annotations

import io

import numpy as np
from hypothesis import strategies as st

from p2mbatch.base.geometry import INVALID, geometry
from p2mbatch.dumps.writers.core import write_core
from p2mbatch.dumps.writers.image import GuestImage
from p2mbatch.dumps.writers.legacy import write_legacy
from p2mbatch.dumps.writers.stream import write_stream

FRAMES = 1 << 20


def build(seed=0, word_bytes=8, span=700, populated=0.5, hole_leaves=0.0):
    """Return a guest of `span` PFNs: single holes, and whole leaves without a page."""
    rng = np.random.default_rng(seed)
    geo = geometry(word_bytes)
    n = geo.entries
    num_leaves, num_mids = -(-span // n), -(-span // n**2)
    present = rng.random(span) < populated
    empty = rng.random(num_leaves) < hole_leaves
    empty[0] = False
    present &= ~np.repeat(empty, n)[:span]
    own_leaf = [bool(present[x * n : (x + 1) * n].any()) or x == 0 for x in range(num_leaves)]
    # missing, mid_missing_mfn, fll, then frame lists and leaves, all in the first leaf.
    need = 3 + num_mids + sum(own_leaf)
    assert need <= min(n, span), "the structures must fit into the first leaf"
    present[rng.choice(min(n, span), need, replace=False)] = True
    pages = iter(rng.permutation(np.flatnonzero(present[:n])).tolist())
    p2m = np.full(span, INVALID, np.int64)
    p2m[present] = rng.choice(FRAMES - 1, np.count_nonzero(present), replace=False) + 1
    missing, mid_missing_mfn, fll = next(pages), next(pages), next(pages)
    words = {
        missing: np.full(n, INVALID, np.int64),
        mid_missing_mfn: np.full(n, p2m[missing], np.int64),
        fll: np.full(n, p2m[mid_missing_mfn], np.int64),
    }
    leaf_pfns = np.full(num_leaves, missing, np.int64)
    for x in range(num_leaves):
        if own_leaf[x]:
            leaf_pfns[x] = page = next(pages)
            words[page] = np.full(n, INVALID, np.int64)
            part = p2m[x * n : (x + 1) * n]
            words[page][: part.size] = part
    for mid in range(num_mids):
        listed = p2m[leaf_pfns[mid * n : (mid + 1) * n]]
        if np.all(listed == p2m[missing]) and mid:
            continue
        page = next(pages)
        words[page] = np.full(n, p2m[missing], np.int64)
        words[page][: listed.size] = listed
        words[fll][mid] = p2m[page]
    return GuestImage(word_bytes, FRAMES, span, int(p2m[fll]), p2m, leaf_pfns, words)


def pfn_of(image, mfn):
    """Return the PFN that names `mfn`."""
    return int(np.flatnonzero(image.p2m == mfn)[0])


def fll_pfn(image):
    return pfn_of(image, image.frame_list_list_mfn)


def fl_pfn(image, mid=0):
    return pfn_of(image, image.words[fll_pfn(image)][mid])


def stream(image, **options):
    out = io.BytesIO()
    write_stream(image, out, **options)
    return out.getvalue()


def legacy(image, **options):
    out = io.BytesIO()
    write_legacy(image, out, **options)
    return out.getvalue()


def core(image):
    out = io.BytesIO()
    write_core(image, out)
    return out.getvalue()


images = st.builds(
    build,
    seed=st.integers(0, 2**32 - 1),
    word_bytes=st.sampled_from([4, 8]),
    span=st.integers(12, 5000),
    populated=st.sampled_from([0.05, 0.5, 1.0]),
    hole_leaves=st.sampled_from([0.0, 0.6]),
)
