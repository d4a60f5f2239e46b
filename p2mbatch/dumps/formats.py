"""Numbers of the file formats, each in one place, for the readers and the writers.

Source: Xen's docs/specs/libxc-migration-stream and libxl-migration-stream,
docs/misc/dump-core-format, and xen/include/public (arch-x86/xen.h for the shared info page,
elfnote.h for the notes).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from p2mbatch.base.geometry import PAGE_BYTES

# --- xl save file -----------------------------------------------------------------------------
XL_MAGIC = b"Xen saved domain, xl format\n \0 \r"

XL_HEADER = struct.Struct("<IIII")
"""Byte order mark, mandatory flags, optional flags, length of the optional data."""

XL_BYTE_ORDER = 0x01020304

XL_FLAG_JSON, XL_FLAG_STREAM_V2 = 1, 2

# --- other containers -------------------------------------------------------------------------
LIBVIRT_MAGIC = b"libvirt-xml\n \0 \r"

LIBVIRT_HEADER = struct.Struct("<16sII40x")
"""Magic, version, bytes of the XML that follows."""

LIBVIRT_VERSIONS = (1, 2)
"""1 holds a legacy stream, 2 a libxl one (libvirt's LIBXL_SAVE_VERSION)."""

XEND_MAGIC = b"LinuxGuestRecord"

XENSERVER_1_MAGIC, XENSERVER_MAGIC = b"XenSavedDomain\n", b"XenSavedDomv2-\n"

XENSERVER_HEADER = struct.Struct("<QQ")
"""Type, bytes of the record that follows (not known for memory images)."""

XENSERVER_LIBXC, XENSERVER_LIBXL, XENSERVER_LIBXC_LEGACY = 0xF0, 0xF1, 0xF2

XENSERVER_STREAMS = {
    XENSERVER_LIBXC: "libxc",
    XENSERVER_LIBXL: "libxl",
    XENSERVER_LIBXC_LEGACY: "legacy libxc",
}

XENSERVER_XENOPS, XENSERVER_END = 0x0F, 0xFFFF

XENSERVER_RECORDS = {
    XENSERVER_XENOPS: "xenops",
    0xF00: "qemu-trad",
    0xF01: "qemu-xen",
    0xF10: "demu",
    0xF11: "varstored",
}

# --- libxl stream -----------------------------------------------------------------------------
LIBXL_HEADER = struct.Struct(">QII")

LIBXL_IDENT = 0x4C6962786C466D74

LIBXL_VERSION = 2

LIBXL_END, LIBXL_LIBXC_CONTEXT = 0, 1

LIBXL_EMULATOR_XENSTORE_DATA, LIBXL_EMULATOR_CONTEXT, LIBXL_CHECKPOINT_END = 2, 3, 4

LIBXL_CHECKPOINT_STATE = 5

LIBXL_NAMES = {
    LIBXL_END: "END",
    LIBXL_LIBXC_CONTEXT: "LIBXC_CONTEXT",
    LIBXL_EMULATOR_XENSTORE_DATA: "EMULATOR_XENSTORE_DATA",
    LIBXL_EMULATOR_CONTEXT: "EMULATOR_CONTEXT",
    LIBXL_CHECKPOINT_END: "CHECKPOINT_END",
    LIBXL_CHECKPOINT_STATE: "CHECKPOINT_STATE",
}

LIBXL_IN_CHECKPOINT = frozenset(LIBXL_NAMES) - {LIBXL_END, LIBXL_LIBXC_CONTEXT}

# --- libxc stream -----------------------------------------------------------------------------
IMAGE_HEADER = struct.Struct(">QIIHHI")

IMAGE_MARKER = (1 << 64) - 1

IMAGE_IDENT = 0x58454E46

IMAGE_BIG_ENDIAN = 1

DOMAIN_HEADER = struct.Struct("<IHHII")

DOMAIN_PV, DOMAIN_HVM = 1, 2

RECORD = struct.Struct("<II")

RECORD_OPTIONAL = 1 << 31

MAX_BODY_BYTES = 128 << 20

PV_INFO = struct.Struct("<BBHI")

P2M_FRAMES = struct.Struct("<II")

PAGE_DATA = struct.Struct("<II")

TSC_INFO = struct.Struct("<IIQII")

PT_LEVELS = {8: 4, 4: 3}

VCPU_CONTEXT_BYTES = {8: 5168, 4: 2800}
"""sizeof(vcpu_guest_context) of a guest of each width."""

(
    END,
    PAGE_DATA_TYPE,
    X86_PV_INFO,
    X86_PV_P2M_FRAMES,
    X86_PV_VCPU_BASIC,
    X86_PV_VCPU_EXTENDED,
    X86_PV_VCPU_XSAVE,
    SHARED_INFO,
    X86_TSC_INFO,
    HVM_CONTEXT,
    HVM_PARAMS,
    TOOLSTACK,
    X86_PV_VCPU_MSRS,
    VERIFY,
    CHECKPOINT,
    CHECKPOINT_DIRTY_PFN_LIST,
    STATIC_DATA_END,
    X86_CPUID_POLICY,
    X86_MSR_POLICY,
) = range(19)

RECORD_NAMES = (
    "END",
    "PAGE_DATA",
    "X86_PV_INFO",
    "X86_PV_P2M_FRAMES",
    "X86_PV_VCPU_BASIC",
    "X86_PV_VCPU_EXTENDED",
    "X86_PV_VCPU_XSAVE",
    "SHARED_INFO",
    "X86_TSC_INFO",
    "HVM_CONTEXT",
    "HVM_PARAMS",
    "TOOLSTACK",
    "X86_PV_VCPU_MSRS",
    "VERIFY",
    "CHECKPOINT",
    "CHECKPOINT_DIRTY_PFN_LIST",
    "STATIC_DATA_END",
    "X86_CPUID_POLICY",
    "X86_MSR_POLICY",
)

V3_RECORDS = frozenset({STATIC_DATA_END, X86_CPUID_POLICY, X86_MSR_POLICY})

EXACT_BODY_BYTES = {
    END: 0,
    X86_PV_INFO: PV_INFO.size,
    SHARED_INFO: PAGE_BYTES,
    X86_TSC_INFO: TSC_INFO.size,
    VERIFY: 0,
    CHECKPOINT: 0,
    STATIC_DATA_END: 0,
}

PFN_BITS = 52

PFN_MASK = (1 << PFN_BITS) - 1

TYPE_SHIFT = 60

TYPE_PLAIN = 0

TYPE_BROKEN, TYPE_ALLOCATE, TYPE_NOT_PRESENT = 0xD, 0xE, 0xF

VALID_TYPES = frozenset({0, 1, 2, 3, 4, 9, 0xA, 0xB, 0xC, 0xD, 0xE, 0xF})

TYPES_WITHOUT_DATA = frozenset({TYPE_BROKEN, TYPE_ALLOCATE, TYPE_NOT_PRESENT})

BATCH_PAGES = 1024
"""Pages that the toolstack puts into one PAGE_DATA record."""


# --- legacy stream (libxc version 1, to Xen 4.5) ----------------------------------------------
LEGACY_BLOCK = struct.Struct("<4sI")
"""Id and length of a block of the extended info."""

LEGACY_MAX_BATCH_PAGES = 1024

LEGACY_TYPE_SHIFT = 28

LEGACY_EXTENDED_VCPU_BYTES = 128
"""sizeof(xen_domctl_ext_vcpucontext) as it is sent after each virtual CPU's context."""

LEGACY_ENABLE_VERIFY, LEGACY_VCPU_INFO, LEGACY_LAST_CHECKPOINT = -1, -2, -9

LEGACY_COMPRESSED_DATA, LEGACY_ENABLE_COMPRESSION, LEGACY_TOOLSTACK = -12, -13, -18

LEGACY_TSC_INFO, LEGACY_TMEM, LEGACY_TMEM_EXTRA = -7, -5, -6

LEGACY_TSC_BYTES = 20
"""Mode, nanoseconds (64 bits), kHz, incarnation."""

LEGACY_MAX_VCPUS = 4096


# --- shared info page -------------------------------------------------------------------------
class SharedInfoLayout(NamedTuple):
    """Byte offsets in the shared info page for one guest width; each field is one word."""

    word: str
    max_pfn: int
    frame_list_list: int
    p2m_cr3: int
    p2m_vaddr: int
    p2m_generation: int


SHARED_INFO_LAYOUTS = {
    8: SharedInfoLayout("<Q", 3088, 3096, 3112, 3120, 3128),
    4: SharedInfoLayout("<I", 2316, 2320, 2328, 2332, 2336),
}

# --- dump-core ELF ----------------------------------------------------------------------------
ELF_MAGIC = b"\x7fELF"

ELF_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")

ELF_SECTION = struct.Struct("<IIQQQQIIQQ")

ELF_SEGMENT = struct.Struct("<IIQQQQQQ")

ELF32_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")

ELF32_SEGMENT = struct.Struct("<IIIIIIII")

PT_LOAD, PT_NOTE = 1, 4

ELF_NOTE = struct.Struct("<III")

ELF_CLASS64, ELF_LSB, ELF_VERSION, ET_CORE = 2, 1, 1, 4

ELF_MACHINES = {62: 8, 3: 4}
"""e_machine -> the guest's word width."""

SHT_NULL, SHT_PROGBITS, SHT_STRTAB, SHT_NOTE = 0, 1, 3, 7

NOTE = struct.Struct("<III4s")

NOTE_NONE, NOTE_HEADER, NOTE_XEN_VERSION, NOTE_FORMAT_VERSION = range(0x2000000, 0x2000004)

NOTE_XEN_VERSION_BYTES = 1280

CORE_HEADER = struct.Struct("<QQQQ")

CORE_MAGIC_PV, CORE_MAGIC_HVM = 0xF00FEBED, 0xF00FEBEE

CORE_FORMAT_VERSION = 1

# --- words ------------------------------------------------------------------------------------
WORD_DTYPES = {8: "<u8", 4: "<u4"}

MAX_MFN = {8: (1 << 40) - 1, 4: (1 << 31) - 1}
"""Largest frame number that a frame list can hold: 52 physical address bits on 64-bit; on 32-bit
the top bit is a flag. A dump does not say how much memory its host had, so this stands for the
toolstack's `max_mfn`."""
