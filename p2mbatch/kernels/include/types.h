/* The types that a kernel's p2m is written in: ours, in the kernel's names. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef u8 uint8_t;
typedef u16 uint16_t;
typedef u32 uint32_t;
typedef u64 uint64_t;
typedef s32 int32_t;
typedef s64 int64_t;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef unsigned long uintptr_t;
typedef __SIZE_TYPE__ size_t;
typedef long ssize_t;
typedef _Bool bool;
typedef unsigned int gfp_t;
typedef u64 phys_addr_t;
typedef u64 dma_addr_t;
typedef struct {
	int counter;
} atomic_t;

struct list_head {
	struct list_head *next, *prev;
};

struct page {
	unsigned long flags;
	unsigned long private;
	unsigned long index;
	void *mapping;
	struct list_head lru;
};

typedef struct xmaddr {
	phys_addr_t maddr;
} xmaddr_t;

typedef struct xpaddr {
	phys_addr_t paddr;
} xpaddr_t;

#define true 1
#define false 0
#define NULL ((void *)0)
#define XMADDR(x) ((xmaddr_t){ .maddr = (x) })
#define XPADDR(x) ((xpaddr_t){ .paddr = (x) })
#ifdef CONFIG_X86_64
#define BITS_PER_LONG 64
#else
#define BITS_PER_LONG 32
#endif
#define BITS_PER_BYTE 8
