"""A guest with a linear p2m list, written by hand: what the package's own writer is held against.

Nothing here comes from the package but the shared info page's field offsets, written out again. The
list maps leaf after leaf; `absent`, `shared` and `at` break or bend one thing at a time.
"""

import struct

PAGE = 4096
ALL = {8: (1 << 64) - 1, 4: (1 << 32) - 1}


class LinearGuest:
    """PFN 0 is the top table, then the other tables, then the leaves; MFN = 3 * PFN + 1000."""

    def __init__(self, width=8, num_pfns=1300, vaddr=None, generation=4, shared=()):
        self.width, self.n, self.num_pfns = width, PAGE // width, num_pfns
        self.levels, self.bits = (4, 48) if width == 8 else (3, 32)
        self.vaddr = vaddr if vaddr is not None else {8: 0xFFFFC90000000000, 4: 0xC4000000}[width]
        self.generation = generation
        self.tables, self.top = {}, 0
        self.next_pfn = 1
        self.tables[0] = (self.levels, {})
        self.leaf_pfns = []
        for slot in range(-(-num_pfns // self.n)):
            pfn = self.leaf_pfns[-1] if slot in shared else self._page()
            self.leaf_pfns.append(pfn)
            self.map(self.vaddr + slot * PAGE, pfn)
        self.p2m = [self.mfn(p) for p in range(num_pfns)]
        assert self.next_pfn <= num_pfns

    def _page(self):
        self.next_pfn += 1
        return self.next_pfn - 1

    @staticmethod
    def mfn(pfn):
        return 3 * pfn + 1000

    def map(self, address, pfn):
        table = 0
        for level in range(self.levels, 0, -1):
            width = 9 if level < self.levels or self.levels == 4 else 2
            index = (address >> (12 + 9 * (level - 1))) & ((1 << width) - 1)
            entries = self.tables[table][1]
            if level == 1:
                entries[index] = pfn
            elif index not in entries:
                entries[index] = self._page()
                self.tables[entries[index]] = (level - 1, {})
            table = entries[index]

    def page(self, pfn, sent):
        """The bytes of a page; tables hold PFNs where they are `sent`, else MFNs."""
        if pfn in self.tables:
            words = [0] * 512
            for index, target in self.tables[pfn][1].items():
                words[index] = (target if sent else self.mfn(target)) << 12 | 3
            return struct.pack("<512Q", *words)
        if pfn in self.leaf_pfns:
            slot = self.leaf_pfns.index(pfn)
            words = self.p2m[slot * self.n : (slot + 1) * self.n]
            words = words + [ALL[self.width]] * (self.n - len(words))
            return struct.pack(f"<{self.n}{'Q' if self.width == 8 else 'I'}", *words)
        return bytes(PAGE)

    def shared_info(self):
        page = bytearray(PAGE)
        cr3 = self.mfn(self.top) << 12
        if self.width == 8:
            struct.pack_into("<QQ", page, 3088, self.num_pfns, ALL[8])
            struct.pack_into("<QQQ", page, 3112, cr3, self.vaddr, self.generation)
        else:
            struct.pack_into("<II", page, 2316, self.num_pfns, ALL[4])
            struct.pack_into("<III", page, 2328, cr3 & ALL[4], self.vaddr, self.generation)
        return bytes(page)

    def stream(self):
        """A bare version 3 stream."""

        def record(kind, body=b""):
            return struct.pack("<II", kind, len(body)) + body + bytes(-len(body) % 8)

        pages, ids = b"", []
        for pfn in range(self.num_pfns):
            level = self.tables[pfn][0] if pfn in self.tables else 0
            ids.append(pfn | level << 60)
            pages += self.page(pfn, sent=True)
        leaves = struct.pack(f"<{len(self.leaf_pfns)}Q", *self.leaf_pfns)
        return (
            struct.pack(">QIIHHI", (1 << 64) - 1, 0x58454E46, 3, 0, 0, 0)
            + struct.pack("<IHHII", 1, 12, 0, 4, 17)
            + record(2, struct.pack("<BBHI", self.width, self.levels, 0, 0))
            + record(16)
            + record(3, struct.pack("<II", 0, self.num_pfns - 1) + leaves)
            + record(1, struct.pack(f"<II{len(ids)}Q", len(ids), 0, *ids) + pages)
            + record(7, self.shared_info())
            + record(0)
        )
