/* What a kernel's functions are written with: marks, conditions that end it, small macros. */
void p2mk_bug(const char *text, int line) __attribute__((noreturn));
void p2mk_panic(const char *text, int line) __attribute__((noreturn));
void p2mk_warn(const char *text, int line);

#define __init
#define __initdata
#define __initconst
#define __ref
#define __init_refok
#define __cpuinit
#define __cpuinitdata
#define __devinit
#define __devinitdata
#define __section(name)
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
#define noinstr
#define fallthrough do { } while (0)
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
/* Without CONFIG_DEBUG_VM these are looked at by the compiler alone. */
#define VM_BUG_ON(condition) ((void)sizeof((long)(condition)))
#define VM_WARN_ON(condition) VM_BUG_ON(condition)
#define BUILD_BUG_ON(condition) do { } while (0)
#define static_assert(condition, ...) _Static_assert(condition, #condition)
#define panic(...) p2mk_panic("panic", __LINE__)
/* Ends the command, not the guest: nobody knows what a kernel would have got. */
#define P2MK_NOT_SIMULATED(what) p2mk_panic("not simulated: " what, __LINE__)
#define WARN_ON(condition) ({ \
	int p2mk_warned = !!(condition); \
	if (p2mk_warned) \
		p2mk_warn(#condition, __LINE__); \
	p2mk_warned; })
#define WARN(condition, ...) WARN_ON(condition)
#define WARN_ON_ONCE(condition) ({ \
	static bool p2mk_told; \
	int p2mk_warned = !!(condition); \
	if (p2mk_warned && !p2mk_told) { \
		p2mk_told = true; \
		p2mk_warn(#condition, __LINE__); \
	} \
	p2mk_warned; })
#define WARN_ONCE(condition, ...) WARN_ON_ONCE(condition)
#define pr_fmt(text) text
#define KERN_ERR
#define KERN_WARNING
#define KERN_INFO
#define KERN_NOTICE
#define KERN_DEBUG
#define KERN_CONT
#define printk(...) do { } while (0)
#define printk_once(...) do { } while (0)
#define printk_ratelimited(...) do { } while (0)
#define pr_alert(...) do { } while (0)
#define pr_crit(...) do { } while (0)
#define pr_emerg_once(...) do { } while (0)
#define pr_emerg_ratelimited(...) do { } while (0)
#define pr_err_once(...) do { } while (0)
#define pr_err_ratelimited(...) do { } while (0)
#define pr_warn_once(...) do { } while (0)
#define pr_warn_ratelimited(...) do { } while (0)
#define pr_notice_once(...) do { } while (0)
#define pr_notice_ratelimited(...) do { } while (0)
#define pr_info_once(...) do { } while (0)
#define pr_info_ratelimited(...) do { } while (0)
#define pr_debug_once(...) do { } while (0)
#define pr_debug_ratelimited(...) do { } while (0)
#define pr_emerg(...) do { } while (0)
#define pr_err(...) do { } while (0)
#define pr_warn(...) do { } while (0)
#define pr_warning(...) do { } while (0)
#define pr_notice(...) do { } while (0)
#define pr_info(...) do { } while (0)
#define pr_debug(...) do { } while (0)
#define pr_cont(...) do { } while (0)
#define dump_stack() do { } while (0)
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
#define ilog2(value) (63 - __builtin_clzll((unsigned long long)(value)))
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
#define EIO 5
#define EAGAIN 11
#define ENOMEM 12
#define EFAULT 14
#define EBUSY 16
#define EEXIST 17
#define ENODEV 19
#define EINVAL 22
#define ENOSPC 28
#define ERANGE 34
#define ENOSYS 38
#define MAX_ERRNO 4095

#define INT_MAX 0x7fffffff
#define UINT_MAX (~0U)
#define LONG_MAX ((long)(~0UL >> 1))
#define ULONG_MAX (~0UL)
#define U32_MAX ((u32)~0U)
#define U64_MAX ((u64)~0ULL)
#define SIZE_MAX (~(size_t)0)

static inline void *ERR_PTR(long error)
{
	return (void *)error;
}

static inline long PTR_ERR(const void *pointer)
{
	return (long)pointer;
}

static inline bool IS_ERR(const void *pointer)
{
	return (unsigned long)pointer >= (unsigned long)-MAX_ERRNO;
}

static inline bool IS_ERR_OR_NULL(const void *pointer)
{
	return !pointer || IS_ERR(pointer);
}
