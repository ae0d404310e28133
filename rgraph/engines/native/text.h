/* Numbers from lines of text: see `text.c`. */
#pragma once

#include <stdint.h>

struct text_stream {
    const char *name;
    int64_t name_size, dimension, sparse, sample_room, number_room; /* given */
    float *values;
    int32_t *columns; /* of sparse values */
    int64_t *ends;    /* where each sparse sample ends among the values */
    int32_t *lines;   /* on which line each sample is */
    int64_t samples, numbers; /* found */
};

/* 0, or what is wrong, and how many bytes before it. */
int parse_text(const char *text, int64_t size, struct text_stream *streams, int count,
               int64_t *where);
