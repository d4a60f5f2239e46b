/* The peer of a sweep's cell: a guest of 512 GiB with every page kept, migrated N times.
 *
 * For each migration every page gets a new frame, the mfn list list is rebuilt by looking each
 * structure page up in the tree, and the toolstack's walk reads every entry of the list and asks
 * the host whose frame it is. Hosts hand out frames by an odd multiplier (its inverse is m2p), so
 * that the peer pays for memory and not for a table of the host.
 *
 * Usage: whole_guest <pages> <migrations>; prints seconds and a checksum.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ENTRIES = 512 };

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static uint64_t inverse(uint64_t odd)
{
	uint64_t x = odd;
	for (int i = 0; i < 6; i++)
		x *= 2 - odd * x;
	return x;
}

int main(int argc, char **argv)
{
	uint64_t pages = argc > 1 ? strtoull(argv[1], 0, 10) : 1ull << 27;
	int migrations = argc > 2 ? atoi(argv[2]) : 8;
	uint64_t leaves = pages / ENTRIES, mids = (leaves + ENTRIES - 1) / ENTRIES;
	uint64_t mask = 4 * pages - 1, list_pfn = 8192, bad = 0, sum = 0;
	uint64_t **tree = malloc(mids * ENTRIES * sizeof *tree);
	uint64_t *memory = malloc(pages * sizeof *memory);
	uint64_t *frame_list = malloc(mids * ENTRIES * sizeof *frame_list);
	double start = now();

	if (!tree || !memory || !frame_list)
		return 1;
	for (uint64_t leaf = 0; leaf < leaves; leaf++)
		tree[leaf] = memory + leaf * ENTRIES;
	for (int host = 0; host <= migrations; host++) {
		uint64_t factor = 0x9E3779B97F4A7C15ull * (2 * host + 1) | 1;
		uint64_t back = inverse(factor);

		for (uint64_t pfn = 0; pfn < pages; pfn++)
			memory[pfn] = pfn * factor & mask;
		for (uint64_t leaf = 0; leaf < leaves; leaf++) {
			uint64_t pfn = list_pfn + leaf;
			frame_list[leaf] = tree[pfn / ENTRIES][pfn % ENTRIES];
		}
		for (uint64_t leaf = 0; leaf < leaves; leaf++) {
			uint64_t pfn = frame_list[leaf] * back & mask;
			bad += pfn >= pages || tree[pfn / ENTRIES][pfn % ENTRIES] != frame_list[leaf];
			sum += pfn;
		}
	}
	printf("%.6f %llu %llu\n", now() - start, (unsigned long long)bad, (unsigned long long)sum);
	return bad != 0;
}
