/* The suite's own random numbers (splitmix64): the same seed gives the same numbers everywhere. One state a thread. */
#ifndef AETHELOS_TESTS_FAULT_RANDOM_H
#define AETHELOS_TESTS_FAULT_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct fault_random {
        uint64_t state;
};

static inline uint64_t fault_random_next(struct fault_random *r)
{
        uint64_t z = r->state += 0x9e3779b97f4a7c15ULL;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        return z ^ (z >> 31);
}

/* from <= result <= to */
static inline int64_t fault_random_between(struct fault_random *r, int64_t from, int64_t to)
{
        return from + (int64_t)(fault_random_next(r) % (uint64_t)(to - from + 1));
}

static inline bool fault_random_chance(struct fault_random *r, unsigned percent)
{
        return fault_random_next(r) % 100 < percent;
}

#endif
