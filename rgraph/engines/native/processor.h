/* What the processor has. */
#pragma once

/* The level of x86-64's instruction sets that processor and system have, 1 to 4; 1 elsewhere. */
int processor_level(void);
