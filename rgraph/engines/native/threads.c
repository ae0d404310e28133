/* Threads that share work. Whoever calls does what no other has begun, so a thread that the system does
   not run holds nothing up but the part that it is at; where that has cost time, the caller goes on alone
   for a while. Threads without work stay awake for a moment (waking one takes longer than many a call),
   giving way to who else wants to run, and then sleep.

   The parts of a work are the same whoever does them, and so is the result. */

#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

enum { MOST_THREADS = 128, STACK = 1 << 20 };
/* Nanoseconds: that a thread waits awake for work, and the caller for the others; that it may lose by that;
   and for each that it lost, how many it then goes on alone. */
enum { AWAKE = 200000, IMPATIENT = 200000, HELD_UP = 100000, ALONE = 8 };

static struct {
    pthread_mutex_t caller; /* held by who has the threads */
    pthread_mutex_t mutex;  /* of what follows */
    pthread_cond_t ended;
    atomic_uint active; /* threads at the work */
    int threads, open;
    int64_t held_up; /* the longest that one of them was, by the system */
    int64_t left;    /* when the last of them was through */
    Part *part;        /* the work */
    const void *what;
    ptrdiff_t parts;
    int shares;
    /* Each thread has parts of its own to begin with: what it has computed in one work it finds in its
       cache in the next. */
    struct {
        _Alignas(LINE) atomic_ptrdiff_t next; /* of these, that is not begun */
        atomic_uint works;                    /* counts those that it was called to */
        atomic_int asleep;
        pthread_cond_t called;
    } of[MOST_THREADS];
} pool;

static atomic_int most_threads = 1;
static _Atomic int64_t alone_until;
static _Thread_local int inside; /* a part of a work */
static pthread_key_t rooms, workspaces;

void set_threads(int threads)
{
    most_threads = threads < 1 ? 1 : threads > MOST_THREADS ? MOST_THREADS : threads;
}

void *room_of_thread(void)
{
    void *room = pthread_getspecific(rooms);
    if (!room && (room = lines_of_memory(ROOM)))
        pthread_setspecific(rooms, room);
    return room;
}

void *lines_of_memory(size_t size)
{
    return aligned_alloc(LINE, (size + LINE - 1) / LINE * LINE);
}

void *workspace_of_thread(size_t size)
{
    char *own = pthread_getspecific(workspaces); /* its size, and after a line what is given out */
    if (!own || *(size_t *)own < size) {
        pthread_setspecific(workspaces, NULL);
        free(own);
        own = lines_of_memory(LINE + size);
        if (!own)
            return NULL;
        *(size_t *)own = size;
        pthread_setspecific(workspaces, own);
    }
    return own + LINE;
}

int threads_at_hand(void)
{
    return inside ? 1 : most_threads;
}

static int64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* While a number is that, but only for a moment. */
static void stay_awake(const atomic_uint *number, unsigned that)
{
    const int64_t start = now(CLOCK_MONOTONIC);
    while (atomic_load(number) == that && now(CLOCK_MONOTONIC) - start < AWAKE)
        sched_yield();
}

/* A thread's own parts, and then what others have not begun of theirs. */
static void do_parts(int thread)
{
    for (int i = 0; i < pool.shares; ++i) {
        const int of = (thread + i) % pool.shares;
        const ptrdiff_t end = pool.parts * (of + 1) / pool.shares;
        for (ptrdiff_t part; (part = atomic_fetch_add(&pool.of[of].next, 1)) < end;)
            pool.part(pool.what, part, thread);
    }
}

static void *thread_of_pool(void *number)
{
    const int thread = (int)(intptr_t)number;
    unsigned seen = 0;
    inside = 1;
    while (room_of_thread()) {
        stay_awake(&pool.of[thread].works, seen);
        pthread_mutex_lock(&pool.mutex);
        pool.of[thread].asleep = 1;
        while (pool.of[thread].works == seen)
            pthread_cond_wait(&pool.of[thread].called, &pool.mutex);
        pool.of[thread].asleep = 0;
        seen = pool.of[thread].works;
        if (pool.open && thread < pool.shares) { /* it may be a later work than it was called to */
            ++pool.active;
            pthread_mutex_unlock(&pool.mutex);
            const int64_t begin = now(CLOCK_MONOTONIC), ran = now(CLOCK_THREAD_CPUTIME_ID);
            do_parts(thread);
            const int64_t held_up
                = now(CLOCK_MONOTONIC) - begin - (now(CLOCK_THREAD_CPUTIME_ID) - ran);
            pthread_mutex_lock(&pool.mutex);
            pool.held_up = held_up > pool.held_up ? held_up : pool.held_up;
            pool.left = now(CLOCK_MONOTONIC);
            if (--pool.active == 0)
                pthread_cond_signal(&pool.ended);
        }
        pthread_mutex_unlock(&pool.mutex);
    }
    return NULL;
}

/* Forks: of all threads only the caller's lives on in the new process. */
static void before_fork(void) { pthread_mutex_lock(&pool.mutex); }
static void after_fork(void) { pthread_mutex_unlock(&pool.mutex); }
static void begin_anew(void)
{
    pthread_mutex_init(&pool.caller, NULL);
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.ended, NULL);
    for (int i = 0; i < MOST_THREADS; ++i) {
        pthread_cond_init(&pool.of[i].called, NULL);
        pool.of[i].works = pool.of[i].asleep = 0;
    }
    pool.active = pool.threads = pool.open = 0;
}

__attribute__((constructor)) static void begin_with_library(void)
{
    begin_anew();
    pthread_key_create(&rooms, free);
    pthread_key_create(&workspaces, free);
    pthread_atfork(before_fork, after_fork, begin_anew);
}

/* Sees to it that there are as many threads, or as many as the system allows, and counts the caller. */
static int with_threads(int threads)
{
    pthread_attr_t how;
    sigset_t all, before;
    if (pool.threads + 1 >= threads)
        return threads;
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&how);
    pthread_attr_setstacksize(&how, STACK);
    pthread_attr_setdetachstate(&how, PTHREAD_CREATE_DETACHED);
    while (pool.threads + 1 < threads) {
        pthread_t thread;
        if (pthread_create(&thread, &how, thread_of_pool, (void *)(intptr_t)(pool.threads + 1)))
            break;
        ++pool.threads;
    }
    pthread_attr_destroy(&how);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool.threads + 1;
}

/* Waits for those who are at a part; what the system's other work has cost here is remembered. */
static void wait_for_others(void)
{
    pthread_mutex_lock(&pool.mutex);
    pool.open = 0;
    pthread_mutex_unlock(&pool.mutex);
    if (!pool.active)
        return;
    /* Without giving way: that would be for a whole slice of the system's time. */
    const int64_t start = now(CLOCK_MONOTONIC);
    while (pool.active && now(CLOCK_MONOTONIC) - start < IMPATIENT)
        ;
    pthread_mutex_lock(&pool.mutex);
    while (pool.active)
        pthread_cond_wait(&pool.ended, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
    const int64_t end = now(CLOCK_MONOTONIC), waited = end - start;
    const int64_t by_others = pool.held_up + (end - pool.left);
    const int64_t lost = waited < by_others ? waited : by_others;
    if (lost > HELD_UP)
        alone_until = end + ALONE * lost;
}

void in_parts(Part *part, const void *what, ptrdiff_t parts, int threads)
{
    threads = parts < threads ? (int)parts : threads;
    if (threads < 2 || inside || (alone_until && now(CLOCK_MONOTONIC) < alone_until)
        || pthread_mutex_trylock(&pool.caller)) { /* another caller has the threads */
        for (ptrdiff_t i = 0; i < parts; ++i)
            part(what, i, 0);
        return;
    }
    inside = 1;
    pthread_mutex_lock(&pool.mutex);
    pool.shares = with_threads(threads);
    pool.part = part;
    pool.what = what;
    pool.parts = parts;
    pool.held_up = 0;
    pool.open = 1;
    for (int i = 0; i < pool.shares; ++i)
        pool.of[i].next = parts * i / pool.shares;
    for (int i = 1; i < pool.shares; ++i)
        ++pool.of[i].works;
    pthread_mutex_unlock(&pool.mutex);
    for (int i = 1; i < pool.shares; ++i)
        if (pool.of[i].asleep)
            pthread_cond_signal(&pool.of[i].called);
    do_parts(0);
    wait_for_others();
    inside = 0;
    pthread_mutex_unlock(&pool.caller);
}
