/* The child in which a user's kernel functions run: a program without a library.
 *
 * The parent shares two files with it: the control block, and the guest's memory, where the page
 * of PFN p lies at p * 4096. A byte through one pipe asks for a call, a byte through the other
 * answers. Once it is set up it can read the one, write the other, and end. */
#pragma GCC visibility push(hidden)
#include "layout.h"
#include "machine.h"
#include "log.h"
#include "hooks.h"
#include "words.h"
#include "boot.h"
#ifdef __x86_64__
#include "flat.h"
#endif
#include "run.h"

struct filter {
    unsigned short code;
    unsigned char yes, no;
    unsigned int k;
};

#define LOAD(at) {0x20, 0, 0, at}
#define IF_NOT(value, skip) {0x15, 0, skip, value}
#define IF(value, skip) {0x15, skip, 0, value}
#define RETURN(what) {0x06, 0, 0, what}
#define ALLOW RETURN(0x7fff0000u)
#define TRAP RETURN(0x00030000u)

/* Leave nothing but the two pipes, the parent's number, the way back from a signal, and the end. */
static void lock_in(void)
{
    static const struct filter program[] = {
        /* 0 */ LOAD(4),
        /* 1 */ IF_NOT(AUDIT_ARCH, 10),
        /* 2 */ LOAD(0),
        /* 3 */ IF(SYS_EXIT, 9),
        /* 4 */ IF(SYS_SIGRETURN, 8),
        /* 5 */ IF(SYS_GETPPID, 7),
        /* 6 */ IF(SYS_READ, 3),
        /* 7 */ IF_NOT(SYS_WRITE, 4),
        /* 8 */ LOAD(16),
        /* 9 */ {0x15, 3, 2, ANSWER_FD},
        /* 10 */ LOAD(16),
        /* 11 */ IF(REQUEST_FD, 1),
        /* 12 */ TRAP,
        /* 13 */ ALLOW,
    };
    struct {
        unsigned short length;
        const struct filter *filters;
    } all = {sizeof program / sizeof *program, program};
    static const struct {
        int what;
        word most;
    } limits[] = {
        {1, 0} /* bytes of a file */, {3, STACK_BYTES + STACK_GAP + SPARE_STACK}, {4, 0} /* core */, {6, 0} /* processes */,
        {7, 0} /* descriptors */,
    };
    char byte = 0;
    for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++) {
        word pair[2] = {limits[i].most, limits[i].most};
        CALL3(SYS_SETRLIMIT, limits[i].what, pair, 0);
    }
    /* The parent begins children on a thread that lasts as long as it does. */
    system_call(SYS_PRCTL, 1 /* PR_SET_PDEATHSIG */, 9, 0, 0, 0, 0);
    if (CALL3(SYS_GETPPID, 0, 0, 0) != (long)C(PARENT))
        leave();
    system_call(SYS_PRCTL, 4 /* PR_SET_DUMPABLE */, 0, 0, 0, 0, 0);
    system_call(SYS_PRCTL, 38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0, 0);
    C(FILTERED) = system_call(SYS_PRCTL, 22 /* PR_SET_SECCOMP */, 2, (long)&all, 0, 0, 0) == 0;
    /* The parent waits for this. Limits alone keep nobody from deleting files, or ending processes. */
    if (CALL3(SYS_WRITE, ANSWER_FD, &byte, 1) != 1 || !C(FILTERED))
        leave();
}

static void *map(word where, word bytes, int protection, int flags, int fd, word from)
{
    long found = system_call(SYS_MMAP, (long)where, (long)bytes, protection, flags, fd, (long)from);
    if (found < 0 && found > -4096)
        leave();
    return (void *)found;
}

#define READ_WRITE 3
#define SHARED 1
#define FIXED 0x10
#define PRIVATE_ANONYMOUS 0x22
#define NO_RESERVE 0x4000

static void start(word *stack) __attribute__((noreturn, used));
static void start(word *stack)
{
    word interval[4] = {0, TICK_MICROSECONDS, 0, TICK_MICROSECONDS};
    u64 range;
    word array_pages;
    /* Whatever else was left open to it. */
    if (CALL3(SYS_CLOSE_RANGE, ANSWER_FD + 1, ~0U, 0) < 0)
        for (int fd = ANSWER_FD + 1; fd < 4096; fd++)
            CALL3(SYS_CLOSE, fd, 0, 0);
    /* Where the direct map of a 32-bit guest will not lie over it. */
    control = map(0x10000000, CONTROL_BYTES, READ_WRITE, SHARED | FIXED, CONTROL_FD, 0);
    range = C(RANGE);
    map(DIRECT, range, READ_WRITE, SHARED | FIXED | NO_RESERVE, MEMORY_FD, 0);
#ifdef __x86_64__
    map(FLAT, MAX_FLAT_BYTES, READ_WRITE, PRIVATE_ANONYMOUS | FIXED | NO_RESERVE, -1, 0);
    flat_looked = map(0, (MAX_FLAT_BYTES >> PAGE_SHIFT) * sizeof *flat_looked, READ_WRITE,
                      PRIVATE_ANONYMOUS | NO_RESERVE, -1, 0);
    map(IMAGE, range < IMAGE_BYTES ? range : IMAGE_BYTES, READ_WRITE, SHARED | FIXED | NO_RESERVE,
        MEMORY_FD, 0);
#endif
    array_pages = (p2mk_static_end - p2mk_static_begin) >> PAGE_SHIFT;
    touched = map(0, (range >> PAGE_SHIFT) + array_pages, READ_WRITE,
                  PRIVATE_ANONYMOUS | NO_RESERVE, -1, 0);
    /* Each life begins with what they hold: none is to be cleared. */
    for (word i = 0; i < array_pages; i++)
        touched[(range >> PAGE_SHIFT) + i] = 1;
    user_data_bytes = p2mk_data_end - p2mk_data_begin;
    user_bss_bytes = p2mk_bss_end - p2mk_bss_begin;
    user_data = map(0, user_data_bytes + PAGE_BYTES, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0);
    copy(user_data, p2mk_data_begin, user_data_bytes);
    if (array_pages)
        map((word)p2mk_static_begin, array_pages << PAGE_SHIFT, READ_WRITE, SHARED | FIXED,
            MEMORY_FD, range >> MMAP_SHIFT);
    for (int i = 0; i < KNOWN_POINTERS; i++)
        known[i].where = control[C_KNOWN + i];
    known_max = (word)p2mk_roots.xen_max_p2m_pfn;
    (void)stack;
    catch_signals();
    CALL3(SYS_SETITIMER, 2 /* ITIMER_PROF */, interval, 0);
    lock_in();
    serve();
    leave();
}

#ifdef __x86_64__
__asm__(".globl _start\n_start: mov %rsp, %rdi\n\tand $-16, %rsp\n\tcall start\n");
#else
__asm__(".globl _start\n_start: mov %esp, %eax\n\tand $-16, %esp\n\tsub $12, %esp\n\t"
        "push %eax\n\tcall start\n");
#endif
