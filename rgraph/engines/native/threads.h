/* Threads that share work: see `threads.c`. */
#pragma once

#include <stddef.h>

enum { ROOM = 1 << 18, LINE = 64 }; /* bytes of a thread's own memory, and of a line of the cache */

/* One part of a work, in the thread of that number; the caller's is 0. */
typedef void Part(const void *what, ptrdiff_t part, int thread);

void set_threads(int threads);

/* Threads for what is to be shared out: one where it is part of what has been shared out. */
int threads_at_hand(void);

/* A thread's own memory, let go when it ends: a caller's stack may be small. NULL if there is none. */
void *room_of_thread(void);

/* `size` bytes that begin at a line of the cache, for `free`. NULL if there are none. */
void *lines_of_memory(size_t size);

/* The calling thread's workspace of at least `size` bytes, valid until its next call. It is kept between
   calls, so that its pages stay mapped. NULL if there is no memory. */
void *workspace_of_thread(size_t size);

/* Does all parts of a work, in so many threads at most. */
void in_parts(Part *part, const void *what, ptrdiff_t parts, int threads);
