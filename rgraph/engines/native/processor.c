/* The levels are those of the x86-64 psABI. */

#include "processor.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <stdint.h>

enum { FMA = 1 << 12, MOVBE = 1 << 22, OSXSAVE = 1 << 27, AVX = 1 << 28, F16C = 1 << 29 };
enum { BMI1 = 1 << 3, AVX2 = 1 << 5, BMI2 = 1 << 8, LZCNT = 1 << 5 };
enum { AVX512F = 1 << 16, AVX512DQ = 1 << 17, AVX512CD = 1 << 28, AVX512BW = 1 << 30 };
static const unsigned AVX512VL = 1u << 31;
enum { YMM = 0x6, ZMM = 0xe6 }; /* registers that the system keeps when it changes threads */

static int has(unsigned those, unsigned all) { return (those & all) == all; }

int processor_level(void)
{
    unsigned a, b, c1, d, b7, c, c8;
    if (!__get_cpuid(1, &a, &b, &c1, &d) || !has(c1, FMA | MOVBE | OSXSAVE | AVX | F16C))
        return 1;
    uint32_t kept, high;
    __asm__("xgetbv" : "=a"(kept), "=d"(high) : "c"(0));
    if (!has(kept, YMM) || !__get_cpuid_count(7, 0, &a, &b7, &c, &d)
        || !has(b7, BMI1 | AVX2 | BMI2) || !__get_cpuid(0x80000001, &a, &b, &c8, &d)
        || !has(c8, LZCNT))
        return 1;
    return has(kept, ZMM) && has(b7, AVX512F | AVX512DQ | AVX512CD | AVX512BW | AVX512VL) ? 4 : 3;
}

#else

int processor_level(void) { return 1; }

#endif
