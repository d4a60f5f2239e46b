/* One CPU: locks are always free, and what is atomic elsewhere is plain. */
typedef struct {
	int taken;
} spinlock_t;

typedef spinlock_t raw_spinlock_t;

struct mutex {
	int taken;
};

#define DEFINE_SPINLOCK(name) spinlock_t name
#define DEFINE_RAW_SPINLOCK(name) raw_spinlock_t name
#define DEFINE_MUTEX(name) struct mutex name
#define __SPIN_LOCK_UNLOCKED(name) { 0 }
#define SPIN_LOCK_UNLOCKED { 0 }
#define spin_lock_init(lock) do { (lock)->taken = 0; } while (0)
#define spin_lock(lock) ((void)(lock))
#define spin_unlock(lock) ((void)(lock))
#define spin_lock_irq(lock) ((void)(lock))
#define spin_unlock_irq(lock) ((void)(lock))
#define spin_lock_irqsave(lock, flags) ((void)(lock), (void)((flags) = 0))
#define spin_unlock_irqrestore(lock, flags) ((void)(lock), (void)(flags))
#define spin_trylock(lock) ((void)(lock), 1)
#define raw_spin_lock(lock) ((void)(lock))
#define raw_spin_unlock(lock) ((void)(lock))
#define raw_spin_trylock(lock) ((void)(lock), 1)
#define lockdep_assert_held(lock) ((void)(lock))
#define raw_spin_lock_irqsave(lock, flags) spin_lock_irqsave(lock, flags)
#define raw_spin_unlock_irqrestore(lock, flags) spin_unlock_irqrestore(lock, flags)
#define mutex_lock(lock) ((void)(lock))
#define mutex_unlock(lock) ((void)(lock))
#define local_irq_save(flags) ((void)((flags) = 0))
#define local_irq_restore(flags) ((void)(flags))
#define local_irq_disable() do { } while (0)
#define local_irq_enable() do { } while (0)

#define mb() do { } while (0)
#define rmb() do { } while (0)
#define wmb() do { } while (0)
#define smp_mb() do { } while (0)
#define smp_rmb() do { } while (0)
#define smp_wmb() do { } while (0)
#define virt_mb() do { } while (0)
#define virt_rmb() do { } while (0)
#define virt_wmb() do { } while (0)
#define dma_rmb() do { } while (0)
#define dma_wmb() do { } while (0)
#define smp_store_release(place, value) do { *(place) = (value); } while (0)
#define smp_load_acquire(place) (*(place))

#define READ_ONCE(value) (value)
#define ACCESS_ONCE(value) (value)
#define WRITE_ONCE(place, value) ((place) = (value))

#define xchg(place, new) ({ \
	__auto_type p2mk_place = (place); \
	__auto_type p2mk_found = *p2mk_place; \
	*p2mk_place = (new); \
	p2mk_found; })
#define cmpxchg(place, old, new) ({ \
	__auto_type p2mk_place = (place); \
	__auto_type p2mk_found = *p2mk_place; \
	if (p2mk_found == (old)) \
		*p2mk_place = (new); \
	p2mk_found; })

#define try_cmpxchg(place, expected, new) ({ \
	__auto_type p2mk_expected = (expected); \
	__auto_type p2mk_old = *p2mk_expected; \
	*p2mk_expected = cmpxchg(place, p2mk_old, new); \
	*p2mk_expected == p2mk_old; })

/* A lock that is held to the end of the block that took it: one CPU runs. */
#define guard(kind) (void)
#define scoped_guard(kind, lock) if ((void)(lock), 1)

#define ATOMIC_INIT(value) { (value) }
#define atomic_read(count) ((count)->counter)
#define atomic_set(count, value) ((void)((count)->counter = (value)))
#define atomic_add(value, count) ((void)((count)->counter += (value)))
#define atomic_sub(value, count) ((void)((count)->counter -= (value)))
#define atomic_inc(count) ((void)(count)->counter++)
#define atomic_dec(count) ((void)(count)->counter--)
#define atomic_inc_return(count) (++(count)->counter)
#define atomic_dec_return(count) (--(count)->counter)
#define atomic_dec_and_test(count) (--(count)->counter == 0)
