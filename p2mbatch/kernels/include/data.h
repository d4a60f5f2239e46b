/* Strings, lists and bits, as a kernel's functions have them. */
void *memcpy(void *to, const void *from, size_t num_bytes);
void *memmove(void *to, const void *from, size_t num_bytes);
void *memset(void *to, int byte, size_t num_bytes);
int memcmp(const void *one, const void *other, size_t num_bytes);
size_t strlen(const char *text);

static inline int strncmp(const char *one, const char *other, size_t most)
{
	size_t i;

	for (i = 0; i < most; i++) {
		if (one[i] != other[i])
			return (unsigned char)one[i] < (unsigned char)other[i] ? -1 : 1;
		if (!one[i])
			break;
	}
	return 0;
}

static inline int strcmp(const char *one, const char *other)
{
	return strncmp(one, other, ~(size_t)0);
}

/* The first byte that is another one; NULL where there is none. */
static inline void *memchr_inv(const void *from, int byte, size_t num_bytes)
{
	const unsigned char *at = from;
	size_t i;

	for (i = 0; i < num_bytes; i++)
		if (at[i] != (unsigned char)byte)
			return (void *)(at + i);
	return NULL;
}

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
#define list_for_each_entry_safe(entry, kept, list, member) \
	for (entry = container_of((list)->next, __typeof__(*entry), member), \
	     kept = container_of(entry->member.next, __typeof__(*entry), member); \
	     &entry->member != (list); \
	     entry = kept, kept = container_of(kept->member.next, __typeof__(*kept), member))
#define page_private(page) ((page)->private)

static inline void list_add(struct list_head *entry, struct list_head *list)
{
	entry->next = list->next;
	entry->prev = list;
	list->next->prev = entry;
	list->next = entry;
}

static inline void list_add_tail(struct list_head *entry, struct list_head *list)
{
	list_add(entry, list->prev);
}

static inline void list_del(struct list_head *entry)
{
	entry->next->prev = entry->prev;
	entry->prev->next = entry->next;
}

static inline void list_del_init(struct list_head *entry)
{
	list_del(entry);
	INIT_LIST_HEAD(entry);
}

static inline unsigned long hash_long(unsigned long value, unsigned int bits)
{
	return (unsigned long)(value * 0x9e3779b97f4a7c15ULL) >> (BITS_PER_LONG - bits);
}

/* Bits of an array of words. */
#define BIT(number) (1UL << (number))
#define BITS_TO_LONGS(num_bits) DIV_ROUND_UP(num_bits, BITS_PER_LONG)
#define DECLARE_BITMAP(name, num_bits) unsigned long name[BITS_TO_LONGS(num_bits)]

static inline int test_bit(long number, const volatile unsigned long *words)
{
	return words[number / BITS_PER_LONG] >> number % BITS_PER_LONG & 1;
}

static inline void set_bit(long number, volatile unsigned long *words)
{
	words[number / BITS_PER_LONG] |= BIT(number % BITS_PER_LONG);
}

static inline void clear_bit(long number, volatile unsigned long *words)
{
	words[number / BITS_PER_LONG] &= ~BIT(number % BITS_PER_LONG);
}

static inline int test_and_set_bit(long number, volatile unsigned long *words)
{
	int was = test_bit(number, words);

	set_bit(number, words);
	return was;
}

static inline int test_and_clear_bit(long number, volatile unsigned long *words)
{
	int was = test_bit(number, words);

	clear_bit(number, words);
	return was;
}

#define __set_bit(number, words) set_bit(number, words)
#define __clear_bit(number, words) clear_bit(number, words)

/* The first bit from @from on that is set; @num_bits where there is none. */
static inline unsigned long find_next_bit(const unsigned long *words, unsigned long num_bits,
					  unsigned long from)
{
	while (from < num_bits && !test_bit(from, words))
		from++;
	return from < num_bits ? from : num_bits;
}

static inline unsigned long find_next_zero_bit(const unsigned long *words, unsigned long num_bits,
					       unsigned long from)
{
	while (from < num_bits && test_bit(from, words))
		from++;
	return from < num_bits ? from : num_bits;
}

#define find_first_bit(words, num_bits) find_next_bit(words, num_bits, 0)
#define find_first_zero_bit(words, num_bits) find_next_zero_bit(words, num_bits, 0)
#define for_each_set_bit(bit, words, num_bits) \
	for (bit = find_next_bit(words, num_bits, 0); (bit) < (num_bits); \
	     bit = find_next_bit(words, num_bits, (bit) + 1))
