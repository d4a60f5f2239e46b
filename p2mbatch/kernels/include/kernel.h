/* What a kernel's functions are written with: marks, conditions that end it, small macros. */
void p2mk_bug(const char *text, int line) __attribute__((noreturn));
void p2mk_panic(const char *text, int line) __attribute__((noreturn));
void p2mk_warn(const char *text, int line);

#define __init
#define __initdata
#define __initconst
#define __ref
#define __refdata
#define __meminit
#define __exit
#define __user
#define __iomem
#define __force
#define __rcu
#define __percpu
#define __maybe_unused
#define __always_unused
#define __used
#define __must_check
#define __read_mostly
#define __ro_after_init
#define __cold
#define __hot
#define __pure
#define __visible
#define __packed __attribute__((packed))
#define __aligned(bytes) __attribute__((aligned(bytes)))
#define __page_aligned_data __attribute__((aligned(4096)))
#define __page_aligned_bss __attribute__((aligned(4096)))
#define ____cacheline_aligned
#define ____cacheline_aligned_in_smp
#define __cacheline_aligned
#define noinline
#define __always_inline inline
#define __inline inline
#define __inline__ inline
#define asmlinkage
#define notrace
#define __weak

#define EXPORT_SYMBOL(name)
#define EXPORT_SYMBOL_GPL(name)
#define EXPORT_PER_CPU_SYMBOL(name)
#define EXPORT_PER_CPU_SYMBOL_GPL(name)
#define MODULE_LICENSE(text)
#define early_param(name, function)
#define __setup(name, function)
#define module_init(function)
#define core_initcall(function)
#define arch_initcall(function)
#define fs_initcall(function)
#define late_initcall(function)
#define __initcall(function)
#define DEFINE_PER_CPU(type, name) type name
#define DECLARE_PER_CPU(type, name) extern type name

#define likely(condition) (condition)
#define unlikely(condition) (condition)
#define barrier() do { } while (0)

#define BUG() p2mk_bug("BUG", __LINE__)
#define BUG_ON(condition) do { if (condition) p2mk_bug(#condition, __LINE__); } while (0)
#define VM_BUG_ON(condition) BUG_ON(condition)
#define BUILD_BUG_ON(condition) do { } while (0)
#define panic(...) p2mk_panic("panic", __LINE__)
#define WARN_ON(condition) ({ \
	int p2mk_warned = !!(condition); \
	if (p2mk_warned) \
		p2mk_warn(#condition, __LINE__); \
	p2mk_warned; })
#define WARN(condition, ...) WARN_ON(condition)
#define WARN_ON_ONCE(condition) WARN_ON(condition)
#define WARN_ONCE(condition, ...) WARN_ON(condition)
#define pr_fmt(text) text
#define KERN_ERR
#define KERN_WARNING
#define KERN_INFO
#define KERN_NOTICE
#define KERN_DEBUG
#define KERN_CONT
#define printk(...) do { } while (0)
#define printk_once(...) do { } while (0)
#define pr_emerg(...) do { } while (0)
#define pr_err(...) do { } while (0)
#define pr_warn(...) do { } while (0)
#define pr_warning(...) do { } while (0)
#define pr_notice(...) do { } while (0)
#define pr_info(...) do { } while (0)
#define pr_debug(...) do { } while (0)
#define pr_cont(...) do { } while (0)
#define xen_raw_printk(...) do { } while (0)
#define xen_raw_console_write(...) do { } while (0)

#define min(a, b) ({ \
	__auto_type p2mk_a = (a); \
	__auto_type p2mk_b = (b); \
	p2mk_a < p2mk_b ? p2mk_a : p2mk_b; })
#define max(a, b) ({ \
	__auto_type p2mk_a = (a); \
	__auto_type p2mk_b = (b); \
	p2mk_a > p2mk_b ? p2mk_a : p2mk_b; })
#define min_t(type, a, b) ({ \
	type p2mk_a = (a); \
	type p2mk_b = (b); \
	p2mk_a < p2mk_b ? p2mk_a : p2mk_b; })
#define max_t(type, a, b) ({ \
	type p2mk_a = (a); \
	type p2mk_b = (b); \
	p2mk_a > p2mk_b ? p2mk_a : p2mk_b; })
#define min3(a, b, c) min(min(a, b), c)
#define max3(a, b, c) max(max(a, b), c)
#define clamp(value, low, high) min(max(value, low), high)
#define swap(a, b) do { \
	__auto_type p2mk_kept = (a); \
	(a) = (b); \
	(b) = p2mk_kept; } while (0)
#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define ALIGN(value, step) (((value) + (step) - 1) / (step) * (step))
#define IS_ALIGNED(value, step) (((value) % (step)) == 0)
#define DIV_ROUND_UP(value, step) (((value) + (step) - 1) / (step))
#define round_up(value, step) ALIGN(value, step)
#define roundup(value, step) ALIGN(value, step)
#define round_down(value, step) ((value) / (step) * (step))
#define rounddown(value, step) round_down(value, step)
#define offsetof(type, member) __builtin_offsetof(type, member)
#define container_of(pointer, type, member) \
	((type *)((char *)(pointer) - offsetof(type, member)))
#define BIT(number) (1UL << (number))
#define cond_resched() do { } while (0)
#define might_sleep() do { } while (0)
#define preempt_disable() do { } while (0)
#define preempt_enable() do { } while (0)
#define smp_processor_id() 0
#define IS_ENABLED(option) P2MK_VALUE(option)
#define P2MK_VALUE(value) P2MK_EXPANDED(P2MK_SHIFT_##value 1, 0)
#define P2MK_SHIFT_1 0,
#define P2MK_EXPANDED(...) P2MK_SECOND(__VA_ARGS__, 0)
#define P2MK_SECOND(first, second, ...) second

#define EPERM 1
#define ENOENT 2
#define ENOMEM 12
#define EFAULT 14
#define EBUSY 16
#define EEXIST 17
#define EINVAL 22
#define ENOSPC 28

void *memcpy(void *to, const void *from, size_t num_bytes);
void *memmove(void *to, const void *from, size_t num_bytes);
void *memset(void *to, int byte, size_t num_bytes);
int memcmp(const void *one, const void *other, size_t num_bytes);

#define INIT_LIST_HEAD(list) do { \
	(list)->next = (list); \
	(list)->prev = (list); } while (0)
#define LIST_HEAD_INIT(name) { &(name), &(name) }
#define LIST_HEAD(name) struct list_head name = { &(name), &(name) }
#define list_empty(list) ((list)->next == (list))
#define list_entry(pointer, type, member) container_of(pointer, type, member)
#define list_for_each_entry(entry, list, member) \
	for (entry = container_of((list)->next, __typeof__(*entry), member); \
	     &entry->member != (list); \
	     entry = container_of(entry->member.next, __typeof__(*entry), member))
#define page_private(page) ((page)->private)
/* No page of a grant is ever in a list here, so that none is asked for. */
#define page_to_pfn(page) (p2mk_panic("page_to_pfn", __LINE__), (page)->index)

static inline void list_add(struct list_head *entry, struct list_head *list)
{
	entry->next = list->next;
	entry->prev = list;
	list->next->prev = entry;
	list->next = entry;
}

static inline void list_del(struct list_head *entry)
{
	entry->next->prev = entry->prev;
	entry->prev->next = entry->next;
}

static inline unsigned long hash_long(unsigned long value, unsigned int bits)
{
	return (unsigned long)(value * 0x9e3779b97f4a7c15ULL) >> (BITS_PER_LONG - bits);
}
