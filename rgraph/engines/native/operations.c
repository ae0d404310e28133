/* The interpreter's operations, by number, and their names. */

#include "operations.h"

#include "functions.h"

#define OPERATION(name, expression) \
    static void operation_##name(float *r, const float *a, const float *b, const float *c, ptrdiff_t n) \
    { \
        _Pragma("GCC ivdep") for (ptrdiff_t i = 0; i < n; ++i) \
        { \
            const float x = a[i], y = b[i], z = c[i]; \
            (void)y, (void)z; \
            r[i] = (float)(expression); \
        } \
    }
#include "expressions.h"
#undef OPERATION

#define OPERATION(name, expression) operation_##name,
Operation *const operations[] = {
#include "expressions.h"
};
#undef OPERATION

#define OPERATION(name, expression) #name,
const char *const operation_names[] = {
#include "expressions.h"
};

const int operations_count = sizeof operations / sizeof *operations;
